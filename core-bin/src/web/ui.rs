//! What pages are made of: tables, forms, facts. One template lays all of them out.

use askama::Template;
use axum::response::Response;
use mfa_store::ListQuery;

use super::page::{self, Frame};

/// A page of the console.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Page<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Debug)]
pub(super) enum Block {
    /// Running text.
    Text(String),
    /// Something that happened or must be known: `good`, `bad`, `note`.
    Notice(&'static str, String),
    /// A search field over the page's list.
    Search {
        value: String,
        what: &'static str,
    },
    Table(Table),
    Form(Form),
    Facts(Vec<(&'static str, String)>),
    /// Text to copy.
    Copy {
        label: &'static str,
        text: String,
    },
    /// An SVG that this server drew.
    Svg {
        label: &'static str,
        svg: String,
    },
    /// Recovery codes.
    Codes(Vec<String>),
    /// A form that makes a passkey; why there is none, or empty.
    Passkey(&'static str),
    /// Where the list goes on.
    Pages(Vec<(String, String)>),
    /// Places to go on to: address and name.
    Links(Vec<(String, &'static str)>),
}

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) headings: Vec<&'static str>,
    /// How the list is sorted by a column, in the headings' order; absent: it cannot be.
    pub(super) sorts: Vec<Option<Sort>>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What can be done beside the title: a [`Cell::Post`].
    pub(super) act: Option<Cell>,
    /// What to say instead when there are no rows.
    pub(super) empty: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the template lends what it passes")]
impl Table {
    fn heading(&self, column: &usize) -> &'static str {
        self.headings.get(*column).copied().unwrap_or_default()
    }

    fn sort(&self, column: &usize) -> Option<&Sort> {
        self.sorts.get(*column)?.as_ref()
    }
}

/// A link that sorts a list by a column.
#[derive(Debug)]
pub(super) struct Sort {
    href: String,
    /// `ascending`, `descending` or `none`: as it is now.
    state: &'static str,
}

/// The columns of a list: what each is called and, if the list can be sorted by it, the word for
/// that in an address and in the store.
pub(super) struct Columns<S: 'static>(
    pub(super) &'static [(&'static str, Option<(&'static str, S)>)],
);

impl<S: Copy + PartialEq> Columns<S> {
    pub(super) fn headings(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    /// Reads an order; a minus before the word turns it round.
    pub(super) fn order(&self, text: &str, usual: (S, bool)) -> (S, bool) {
        let (word, down) = text.strip_prefix('-').map_or((text, false), |word| (word, true));
        let found = self.0.iter().filter_map(|(_, sort)| *sort).find(|(code, _)| *code == word);
        found.map_or(usual, |(_, sort)| (sort, down))
    }

    /// Links every column that the list can be sorted by.
    pub(super) fn sorts(
        &self,
        (now, down): (S, bool),
        link: impl Fn(&str) -> String,
    ) -> Vec<Option<Sort>> {
        let one = |(code, sort): (&'static str, S)| {
            let state = match (sort == now, down) {
                (false, _) => "none",
                (true, false) => "ascending",
                (true, true) => "descending",
            };
            let next = if state == "ascending" { format!("-{code}") } else { code.to_owned() };
            Sort { href: link(&next), state }
        };
        self.0.iter().map(|(_, sort)| sort.map(one)).collect()
    }
}

/// A cell.
#[derive(Debug)]
pub(super) enum Cell {
    Text(String),
    /// A time, in one line.
    Time(String),
    Code(String),
    /// Longer text of a machine, in as many lines as it needs.
    Detail(String),
    Link {
        href: String,
        text: String,
    },
    /// A state: `good`, `bad`, `note`, `plain`.
    Badge(&'static str, String),
    /// A button.
    Post {
        action: String,
        fields: Vec<(&'static str, String)>,
        label: &'static str,
        about: String,
        /// Whether it takes something away.
        danger: bool,
    },
}

impl Cell {
    pub(super) fn time(text: impl core::fmt::Display) -> Self {
        Self::Time(text.to_string())
    }

    pub(super) fn text(text: impl core::fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    pub(super) fn link(href: String, text: &str) -> Self {
        Self::Link { href, text: text.to_owned() }
    }
}

/// A form.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) title: &'static str,
    pub(super) hint: String,
    pub(super) action: String,
    pub(super) hidden: Vec<(&'static str, String)>,
    pub(super) fields: Vec<Field>,
    pub(super) button: &'static str,
    pub(super) danger: bool,
}

/// A field of a form.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: String,
    pub(super) kind: Kind,
    pub(super) value: String,
    pub(super) hint: String,
    pub(super) required: bool,
    pub(super) autocomplete: &'static str,
}

/// How a field is filled in.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) enum Kind {
    #[default]
    Text,
    Email,
    Password,
    /// A whole number.
    Number,
    /// Six digits, or a recovery code.
    Code,
    /// On if the value is not empty.
    Check,
    /// One of these.
    Choice(Vec<String>),
    /// Any of these: name, label, and whether it is on.
    Checks(Vec<(&'static str, String, bool)>),
    /// Lines of text.
    Lines,
}

impl Field {
    pub(super) fn text(name: &'static str, label: &str, value: &str) -> Self {
        let (label, value) = (label.to_owned(), value.to_owned());
        Self { name, label, value, autocomplete: "off", ..Self::default() }
    }

    pub(super) fn check(name: &'static str, label: String, on: bool) -> Self {
        let value = if on { "on".to_owned() } else { String::new() };
        Self { name, label, kind: Kind::Check, value, ..Self::default() }
    }

    /// A check that must be set for a change that cannot be undone.
    pub(super) fn consent(label: String) -> Self {
        Self { required: true, ..Self::check("sure", label, false) }
    }

    pub(super) fn checks(label: &str, all: Vec<(&'static str, String, bool)>) -> Self {
        Self { label: label.to_owned(), kind: Kind::Checks(all), ..Self::default() }
    }

    pub(super) fn choice(name: &'static str, label: &str, all: Vec<String>, value: &str) -> Self {
        Self { kind: Kind::Choice(all), ..Self::text(name, label, value) }
    }

    pub(super) fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(super) fn hint(self, hint: &str) -> Self {
        Self { hint: hint.to_owned(), ..self }
    }
}

/// Asks before something is done that takes things away: says what will happen, and does it with a
/// second click. `hidden` is what the form said that asked for it.
pub(super) fn ask(
    frame: Frame<'_>,
    title: &'static str,
    words: String,
    action: &str,
    hidden: Vec<(&'static str, String)>,
    (button, back): (&'static str, String),
) -> Response {
    let mut hidden = hidden;
    hidden.push(("sure", "on".to_owned()));
    let form = Form {
        title: "What this will do",
        hint: words,
        action: action.to_owned(),
        hidden,
        button,
        danger: true,
        ..Form::default()
    };
    let blocks = vec![Block::Form(form), Block::Links(vec![(back, "Go back, and change nothing")])];
    show(frame, title, blocks)
}

/// Stands where a form would that needs a factor proved a moment ago: says why, and leads there and
/// back to `place`.
pub(super) fn prove(place: &str, why: &str) -> [Block; 2] {
    let words = format!("{why} So a change needs a factor that was proved in the last 5 minutes.");
    let link = format!("/login/code?next={}", encoded(place));
    [Block::Notice("note", words), Block::Links(vec![(link, "Prove it now")])]
}

/// Shows a page.
pub(super) fn show(frame: Frame<'_>, title: &str, blocks: Vec<Block>) -> Response {
    page::show(&Page { frame, title: title.to_owned(), blocks })
}

/// Rows of a page of a list.
pub(super) const ROWS: i64 = 50;

/// Tells where a page of a list begins. Pages count from 1.
pub(super) fn offset(page: i64) -> i64 {
    page.max(1).saturating_sub(1).saturating_mul(ROWS)
}

/// What a page of a list asks of the store: pages count from 1.
pub(super) fn query<S>(
    search: &str,
    (sort, descending): (S, bool),
    page: Option<i64>,
) -> ListQuery<S> {
    let offset = offset(page.unwrap_or(1));
    ListQuery { search: search.to_owned(), sort, descending, offset, limit: ROWS }
}

/// Writes the address of a page of a list.
pub(super) fn page_of(path: &str, search: &str, sort: &str, page: i64) -> String {
    format!("{path}?q={}&sort={}&page={page}", encoded(search), encoded(sort))
}

/// Writes the links to the pages before and after.
pub(super) fn neighbours(page: i64, matching: u64, link: impl Fn(i64) -> String) -> Block {
    let page = page.max(1);
    let pages = i64::try_from(matching.div_ceil(ROWS.unsigned_abs()).max(1)).unwrap_or(i64::MAX);
    let mut links = Vec::new();
    if pages > 1 || page > 1 {
        if page > 1 {
            links.push((link(page.saturating_sub(1).min(pages)), "Previous".to_owned()));
        }
        links.push((String::new(), format!("Page {page} of {pages}, {matching} in all")));
        if page < pages {
            links.push((link(page.saturating_add(1)), "Next".to_owned()));
        }
    }
    Block::Pages(links)
}

/// Writes a value for the query of an address.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Writes a value as one segment of a path, in which a plus is a plus.
pub(super) fn segment(text: &str) -> String {
    encoded(text).replace('+', "%20")
}
