//! What pages are made of: tables, forms, facts. One template lays all of them out.

use askama::Template;
use axum::response::Response;

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
    /// Where the list goes on.
    Pages(Vec<(String, String)>),
}

/// A table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) headings: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What to say instead when there are no rows.
    pub(super) empty: &'static str,
}

/// A cell.
#[derive(Debug)]
pub(super) enum Cell {
    Text(String),
    Code(String),
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
    },
}

impl Cell {
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
    /// Six digits, or a recovery code.
    Code,
    /// On if the value is not empty.
    Check,
    /// One of these.
    Choice(Vec<String>),
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

/// Shows a page.
pub(super) fn show(frame: Frame<'_>, title: &str, blocks: Vec<Block>) -> Response {
    page::show(&Page { frame, title: title.to_owned(), blocks })
}

/// Takes a page out of a list, with the links to its neighbours. Pages count from 1.
pub(super) fn paged<T>(
    all: Vec<T>,
    page: usize,
    link: impl Fn(usize) -> String,
) -> (Vec<T>, Block) {
    const ROWS: usize = 50;
    let pages = all.len().div_ceil(ROWS).max(1);
    let page = page.clamp(1, pages);
    let from = page.saturating_sub(1).saturating_mul(ROWS);
    let total = all.len();
    let rows: Vec<T> = all.into_iter().skip(from).take(ROWS).collect();
    (rows, neighbours(page, pages, total, link))
}

/// Writes the links to the pages before and after.
pub(super) fn neighbours(
    page: usize,
    pages: usize,
    total: usize,
    link: impl Fn(usize) -> String,
) -> Block {
    let mut links = Vec::new();
    if pages > 1 {
        if page > 1 {
            links.push((link(page.saturating_sub(1)), "Previous".to_owned()));
        }
        links.push((String::new(), format!("Page {page} of {pages}, {total} in all")));
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
