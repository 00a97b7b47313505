//! Who may come in: the browser that was given the link, asking for this server by its own name,
//! from a page of its own.
//!
//! Pure: requests' heads in, a verdict out. The other half, that the kernel names the user at the
//! other end, is [`peer`](super::peer).

use core::fmt;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::rng;

/// Where the link leads.
pub(super) const OPEN: &str = "/open";

/// What every page looks like. There is no secret in it.
pub(super) const STYLE: &str = "/style.css";

/// How long the link is good.
const LINK_LIFE: Duration = Duration::from_secs(600);

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The one door of a server.
pub(super) struct Door {
    /// `127.0.0.1:PORT`, the only name that is answered to.
    host: String,
    cookie: Secret,
    link: Mutex<Option<Link>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A link that was not used yet.
struct Link {
    secret: Secret,
    until: Instant,
}

/// What only one browser knows.
struct Secret(Zeroizing<String>);

impl Secret {
    fn make() -> io::Result<Self> {
        Ok(Self(Zeroizing::new(BASE64URL_NOPAD.encode(rng::secret()?.as_slice()))))
    }

    /// Compares digests: the time that takes tells nothing of the text.
    fn is(&self, text: &str) -> bool {
        Sha256::digest(text) == Sha256::digest(self.0.as_str())
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shut {
    /// It calls this server by another name: a name that leads here by DNS, perhaps.
    Name,
    /// It comes from a page of another site, or does not say from which.
    Site,
    /// It has no cookie, or not this server's.
    Stranger,
}

impl Shut {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Name => StatusCode::MISDIRECTED_REQUEST,
            Self::Site | Self::Stranger => StatusCode::FORBIDDEN,
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Name => {
                "This address is not this window's. Open the link that client-bin ui printed."
            }
            Self::Site => "This came from a page of another site, and was not done.",
            Self::Stranger => {
                "This browser was not let in. The link is good once: run client-bin ui again and open the one that it prints."
            }
        }
    }
}

impl Door {
    /// Makes the door of the server at an address. Returns the link too, which is the only way in.
    pub(super) fn new(at: SocketAddr, now: Instant) -> io::Result<(Self, Zeroizing<String>)> {
        let (cookie, secret) = (Secret::make()?, Secret::make()?);
        let text = Zeroizing::new(format!("http://{at}{OPEN}?key={}", secret.0.as_str()));
        let link = Mutex::new(Some(Link { secret, until: now + LINK_LIFE }));
        Ok((Self { host: at.to_string(), cookie, link }, text))
    }

    /// Uses the link up; only the first who comes with it in time gets in.
    pub(super) fn open(&self, key: &str, now: Instant) -> bool {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let good = link.as_ref().is_some_and(|link| now < link.until && link.secret.is(key));
        if good {
            *link = None;
        }
        good
    }

    /// Judges a request by its head.
    pub(super) fn judge(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<(), Shut> {
        let mut named = headers.get_all(HOST).iter();
        let is_ours = named.next().is_some_and(|host| host.as_bytes() == self.host.as_bytes());
        if !is_ours || named.next().is_some() {
            return Err(Shut::Name);
        }
        // The link comes from a terminal, or from wherever the person put it; it is its own proof.
        if path == OPEN && method == Method::GET {
            return Ok(());
        }
        self.site(method, headers)?;
        // What the page that says no looks like.
        if path == STYLE && method == Method::GET {
            return Ok(());
        }
        if self.has_cookie(headers) { Ok(()) } else { Err(Shut::Stranger) }
    }

    /// Whether the page that asks is one of ours. Who changes something must say so.
    fn site(&self, method: &Method, headers: &HeaderMap) -> Result<(), Shut> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let fetched = text(FETCH_SITE);
        // A browser that hides where a form comes from says "null"; what it says itself stands.
        let hides = fetched == Some("same-origin") && text(ORIGIN) == Some("null");
        let origin = text(ORIGIN).filter(|_| !hides);
        let origin = origin.map(|origin| origin.strip_prefix("http://") == Some(&self.host));
        let ours = match (fetched, origin) {
            (_, Some(false)) => false,
            (Some("same-origin"), _) | (None, Some(true)) => true,
            // Typed, bookmarked, another program's: nobody's page made it. Or it does not say.
            (Some("none"), _) | (None, None) => is_read,
            // Another port of this machine is another site here.
            (Some(_), _) => false,
        };
        if ours { Ok(()) } else { Err(Shut::Site) }
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(key, value)| key == name && self.cookie.is(value))
    }

    /// Cookies know no ports: without it in the name, two windows would overwrite each other's.
    fn cookie_name(&self) -> String {
        format!("wgmfa-{}", self.host.rsplit(':').next().unwrap_or_default())
    }

    /// What gives a browser the cookie: for this server alone, and for no script.
    pub(super) fn set_cookie(&self) -> Zeroizing<String> {
        let (name, text) = (self.cookie_name(), self.cookie.0.as_str());
        Zeroizing::new(format!("{name}={text}; HttpOnly; SameSite=Strict; Path=/"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::clock;

    struct Rig {
        door: Door,
        key: String,
        cookie: String,
    }

    fn rig() -> Rig {
        let (door, link) =
            Door::new("127.0.0.1:4711".parse().unwrap(), clock::monotonic()).unwrap();
        let key = link.split_once("key=").unwrap().1.to_owned();
        let cookie = door.set_cookie().split(';').next().unwrap().to_owned();
        Rig { door, key, cookie }
    }

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_link_lets_one_in_once_and_in_time() {
        let now = clock::monotonic();
        let Rig { door, key, .. } = rig();
        assert!(!door.open("wrong", now));
        assert!(!door.open(&key, now + LINK_LIFE + Duration::from_secs(1)));
        assert!(door.open(&key, now));
        assert!(!door.open(&key, now));
    }

    #[test]
    fn a_browser_with_the_cookie_reads_and_changes_from_our_own_pages() {
        let Rig { door, cookie, .. } = rig();
        let host = ("host", "127.0.0.1:4711");
        for site in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "http://127.0.0.1:4711")],
            &[("sec-fetch-site", "same-origin"), ("origin", "null")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:4711")],
        ] {
            let fields = [&[host, ("cookie", &cookie)], site].concat();
            assert_eq!(door.judge(&Method::POST, "/connect", &head(&fields)), Ok(()), "{site:?}");
            assert_eq!(door.judge(&Method::GET, "/", &head(&fields)), Ok(()), "{site:?}");
        }
    }

    #[test]
    fn a_name_that_leads_here_by_dns_is_not_answered() {
        let Rig { door, key, cookie } = rig();
        for host in ["evil.example:4711", "localhost:4711", "127.0.0.1", "127.0.0.1:80", ""] {
            let fields = head(&[("host", host), ("cookie", &cookie)]);
            assert_eq!(door.judge(&Method::GET, "/", &fields), Err(Shut::Name), "{host}");
            assert_eq!(door.judge(&Method::GET, OPEN, &fields), Err(Shut::Name), "{host}");
        }
        assert_eq!(door.judge(&Method::GET, "/", &head(&[])), Err(Shut::Name));
        let mut two = head(&[("host", "127.0.0.1:4711"), ("cookie", &cookie)]);
        two.append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(door.judge(&Method::GET, "/", &two), Err(Shut::Name));
        assert!(door.open(&key, clock::monotonic()), "the link is still good");
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let Rig { door, cookie, .. } = rig();
        for site in [
            &[("sec-fetch-site", "cross-site")][..],
            // Another port of this machine.
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:9999")],
            &[("origin", "https://127.0.0.1:4711")],
            &[("origin", "null")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
            // It does not say.
            &[],
        ] {
            let fields = [&[("host", "127.0.0.1:4711"), ("cookie", &cookie)], site].concat();
            let verdict = door.judge(&Method::POST, "/connect", &head(&fields));
            assert_eq!(verdict, Err(Shut::Site), "{site:?}");
        }
    }

    #[test]
    fn nothing_is_read_without_the_cookie() {
        let Rig { door, cookie, .. } = rig();
        let (name, value) = cookie.split_once('=').unwrap();
        for sent in [
            String::new(),
            format!("{name}="),
            format!("{name}={}x", value),
            format!("wgmfa-4712={value}"),
            format!("x{name}={value}"),
        ] {
            let fields = [("host", "127.0.0.1:4711"), ("cookie", sent.as_str())];
            let verdict = door.judge(&Method::GET, "/", &head(&fields));
            assert_eq!(verdict, Err(Shut::Stranger), "{sent}");
        }
        let among_others = format!("a=b; {cookie}; c=d");
        let fields = [("host", "127.0.0.1:4711"), ("cookie", among_others.as_str())];
        assert_eq!(door.judge(&Method::GET, "/", &head(&fields)), Ok(()));
    }

    #[test]
    fn the_cookie_is_for_this_server_and_for_no_script() {
        let Rig { door, cookie, .. } = rig();
        assert_eq!(
            door.set_cookie().strip_prefix(&cookie),
            Some("; HttpOnly; SameSite=Strict; Path=/")
        );
        assert!(!format!("{door:?}").contains(&cookie));
    }
}
