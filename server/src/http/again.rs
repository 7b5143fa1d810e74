//! Answers that are given again, in the headers of HTTP: `Cache-Control: max-age` says how old an answer may be,
//! `Age` how old it is; `ETag` names it, `If-None-Match` names those that the client has.
//!
//! A question is safe, though POST carries it: one whose answer the client has is answered with 304.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use otus_sql::Session;

use super::error::HttpError;

/// The setting that says how old an answer may be.
const MAX_AGE: &str = "otus.cache_max_age";
/// Most tags that a client may have.
const TAGS_MAX: usize = 64;

/// How old an answer may be by the request's headers; none if they do not say.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut allowed: Option<Duration> = None;
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for part in lines.flat_map(|line| line.split(',')) {
        let part = part.trim().to_ascii_lowercase();
        let seconds = match part.split_once('=') {
            None if part == "no-cache" || part == "no-store" => Some(0),
            Some(("max-age", seconds)) => Some(seconds.trim_matches('"').parse().unwrap_or(0)),
            _ => None,
        };
        if let Some(age) = seconds.map(Duration::from_secs) {
            allowed = Some(allowed.map_or(age, |known| known.min(age)));
        }
    }
    allowed
}

/// Lets the session give answers again as far as the request's headers allow it. Of headers and what the body has
/// set (`is_set`) the stricter one counts.
pub(super) fn allow(session: &Session, headers: &HeaderMap, is_set: bool) -> Result<(), HttpError> {
    let Some(allowed) = max_age(headers) else { return Ok(()) };
    let allowed = u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX);
    let set = session.setting(MAX_AGE).parse::<u64>().ok().filter(|_| is_set);
    let allowed = set.map_or(allowed, |set| set.min(allowed));
    Ok(session.assign(MAX_AGE, &allowed.to_string())?)
}

/// Whether a name is that of the setting.
pub(super) fn is_max_age(name: &str) -> bool {
    name.eq_ignore_ascii_case(MAX_AGE)
}

/// Asks for tags of answers of this form, and tells which the client has.
pub(super) fn ask_tags(session: &Session, headers: &HeaderMap, form: &str) {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let tags = lines.flat_map(|line| line.split(',')).filter_map(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
        tag.strip_suffix(form)?.strip_suffix('-').map(str::to_owned)
    });
    session.tag_answers(tags.take(TAGS_MAX).collect());
}

/// Puts the tag of an answer in a form, and its age, into the headers.
pub(super) fn tell(response: &mut Response, tag: Option<(&str, &str)>, age: Option<Duration>) {
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    if let Some((tag, form)) = tag {
        put(header::ETAG, format!("\"{tag}-{form}\""));
    }
    if let Some(age) = age {
        put(header::AGE, age.as_secs().to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_word_about_age_counts() {
        let age = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CACHE_CONTROL, line.parse().unwrap());
            }
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age(&[]), None);
        assert_eq!(age(&["private"]), None);
        assert_eq!(age(&["max-age=10"]), Some(10));
        assert_eq!(age(&["private, Max-Age=\"10\""]), Some(10));
        assert_eq!(age(&["max-age=10, no-cache"]), Some(0));
        assert_eq!(age(&["max-age=10", "max-age=3"]), Some(3));
        assert_eq!(age(&["max-age=soon"]), Some(0));
        assert_eq!(age(&["max-stale=10"]), None);
    }
}
