//! The settings of a session: the known ones, their defaults, what values they take, and which of them a
//! client is told about. Unknown names are refused; names with a dot are free, as in Postgres.

use std::collections::BTreeMap;

use crate::error::{SqlError, SqlResult, sqlstate};

/// What values a setting takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Integer,
    Between(i64, i64),
    Duration,
    Zone,
    Encoding,
    DateStyle,
    OneOf(&'static [&'static str]),
    /// The user itself: nobody becomes another.
    User,
    ReadOnly,
}

struct Known {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Whether clients are told of a change.
    reported: bool,
    description: &'static str,
}

const fn known(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Known {
    Known { name, default, kind, reported: false, description }
}

const fn reported(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Known {
    Known { name, default, kind, reported: true, description }
}

pub(super) const ISOLATION: &[&str] =
    &["read committed", "repeatable read", "serializable", "read uncommitted"];

/// Bytes of the names and values of the settings that a client makes up.
const OWN_BYTES_MAX: usize = 64 << 10;

/// Settings that change the rows of an answer, as far as no function asks for them.
const OF_ANSWERS: &[&str] = &[
    "TimeZone",
    "search_path",
    "otus.rollups",
    #[cfg(test)]
    "fuzz.fault",
];

/// The Postgres version that clients are told.
pub const SERVER_VERSION: &str = "16.6";

#[rustfmt::skip]
static KNOWN: &[Known] = &[
    reported("application_name", "", Kind::Text, "Name of the application that connected."),
    known("bytea_output", "hex", Kind::OneOf(&["hex", "escape"]), "Output format of bytea."),
    known("client_min_messages", "notice", Kind::Text, "Least severity of messages sent."),
    reported("client_encoding", "UTF8", Kind::Encoding, "Encoding of the client."),
    reported("DateStyle", "ISO, MDY", Kind::DateStyle, "Format of dates; always ISO."),
    known("default_table_access_method", "heap", Kind::Text, "Accepted, without effect."),
    known("default_transaction_isolation", "read committed", Kind::OneOf(ISOLATION), "Isolation of a new transaction."),
    reported("default_transaction_read_only", "off", Kind::Bool, "Whether a new transaction must not write."),
    known("extra_float_digits", "1", Kind::Between(-15, 3), "Digits of floats; from 1 on the fewest that tell them apart."),
    known("idle_in_transaction_session_timeout", "0", Kind::Duration, "Longest silence of a client in a transaction; 0 = any."),
    known("idle_session_timeout", "0", Kind::Duration, "Longest silence of a client outside a transaction; 0 = any."),
    reported("in_hot_standby", "off", Kind::ReadOnly, "Whether the server is a standby."),
    reported("integer_datetimes", "on", Kind::ReadOnly, "Dates are integers."),
    reported(
        "IntervalStyle",
        "postgres",
        Kind::OneOf(&["postgres", "iso_8601"]),
        "Format of intervals.",
    ),
    known("jit", "off", Kind::Bool, "Accepted, without effect."),
    known("lc_collate", "C", Kind::ReadOnly, "Order of text: by code point."),
    known("lc_ctype", "C.UTF-8", Kind::ReadOnly, "Classes of characters."),
    known("lc_messages", "C", Kind::Text, "Language of messages."),
    known("lc_monetary", "C", Kind::Text, "Format of money."),
    known("lc_numeric", "C", Kind::Text, "Format of numbers."),
    known("lc_time", "C", Kind::Text, "Format of times."),
    known("lock_timeout", "0", Kind::Duration, "Accepted, without effect."),
    known("max_identifier_length", "63", Kind::ReadOnly, "Longest name."),
    known("max_index_keys", "32", Kind::ReadOnly, "Columns of an index."),
    known("otus.cache_max_age", "0", Kind::Duration, "How old an answer may be that is given again; 0 = none is."),
    known("otus.insert_wait", "accepted", Kind::OneOf(&["accepted", "visible"]), "What INSERT and COPY FROM wait for."),
    known("otus.rollups", "auto", Kind::OneOf(&["auto", "off", "force"]), "Whether queries use rollups by themselves."),
    reported("is_superuser", "off", Kind::ReadOnly, "Whether the user may do everything."),
    reported("search_path", "\"$user\", public", Kind::Text, "Schemas of unqualified names."),
    reported("server_encoding", "UTF8", Kind::ReadOnly, "Encoding of the server."),
    reported("server_version", SERVER_VERSION, Kind::ReadOnly, "Version of Postgres that Otus speaks like."),
    known("server_version_num", "160006", Kind::ReadOnly, "The same as a number."),
    known("role", "none", Kind::User, "The role; that of the user."),
    reported("session_authorization", "", Kind::User, "The user."),
    known("ssl", "off", Kind::ReadOnly, "Whether the server offers TLS."),
    reported("standard_conforming_strings", "on", Kind::OneOf(&["on"]), "Backslashes in strings are ordinary."),
    known("statement_timeout", "0", Kind::Duration, "Longest time of a statement; 0 = any."),
    known("synchronous_commit", "on", Kind::Text, "Accepted, without effect."),
    reported("TimeZone", "UTC", Kind::Zone, "Time zone in which times are shown and read."),
    known("transaction_isolation", "read committed", Kind::OneOf(ISOLATION), "Isolation of this transaction."),
    known("transaction_read_only", "off", Kind::Bool, "Whether this transaction must not write."),
    known("work_mem", "4MB", Kind::Text, "Accepted, without effect."),
    known("row_security", "on", Kind::Bool, "Accepted, without effect."),
    known("default_text_search_config", "pg_catalog.simple", Kind::Text, "Accepted, without effect."),
    known("default_tablespace", "", Kind::Text, "Accepted, without effect."),
    known("tcp_keepalives_idle", "0", Kind::Integer, "Accepted, without effect."),
    known("tcp_keepalives_interval", "0", Kind::Integer, "Accepted, without effect."),
    known("tcp_user_timeout", "0", Kind::Integer, "Accepted, without effect."),
    known("enable_seqscan", "on", Kind::Bool, "Accepted, without effect."),
    known("geqo", "on", Kind::Bool, "Accepted, without effect."),
    known("password_encryption", "scram-sha-256", Kind::ReadOnly, "How passwords are kept."),
    known("block_size", "8192", Kind::ReadOnly, "Accepted, without effect."),
    known("data_checksums", "on", Kind::ReadOnly, "Files carry checksums."),
    known("max_connections", "100", Kind::ReadOnly, "Most connections."),
    known("port", "5433", Kind::ReadOnly, "Port of the server."),
];

/// The values of a session's settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    defaults: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.name.eq_ignore_ascii_case(name))
}

/// A setting's name as it is spelled.
pub(super) fn shown_name(name: &str) -> &str {
    find(name).map_or(name, |known| known.name)
}

fn canonical(name: &str) -> SqlResult<String> {
    match find(name) {
        Some(known) => Ok(known.name.to_string()),
        None if name.contains('.')
            && !name.starts_with("datafusion.")
            && !name.starts_with("otus.") =>
        {
            Ok(name.to_ascii_lowercase())
        }
        None => Err(SqlError::new(
            sqlstate::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// The name of a known setting as it is written, what it is, and whether it is fixed.
pub(crate) fn setting_description(name: &str) -> Option<(&'static str, &'static str, bool)> {
    let known = find(name)?;
    Some((known.name, known.description, matches!(known.kind, Kind::ReadOnly)))
}

impl Settings {
    /// The value a session starts with, which RESET brings back. Unknown names are ignored, as clients
    /// send all sorts; bad values are errors.
    pub(crate) fn set_default(&mut self, name: &str, value: &str) -> SqlResult<()> {
        let Ok(name) = canonical(name) else { return Ok(()) };
        if let Some(known) = find(&name)
            && !matches!(known.kind, Kind::ReadOnly | Kind::User)
        {
            let value = check(known, value, &self.value(known.name))?;
            self.defaults.insert(name, value);
        }
        Ok(())
    }

    /// A value that the server knows and no client may change.
    pub(crate) fn fix(&mut self, name: &str, value: &str) {
        self.defaults.insert(name.to_string(), value.to_string());
    }

    /// Sets (or with none, resets) a setting. Returns its canonical name.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> SqlResult<String> {
        let name = canonical(name)?;
        let known = find(&name);
        if let Some(Known { kind: Kind::ReadOnly, name, .. }) = known {
            return Err(SqlError::new(
                sqlstate::CANT_CHANGE,
                format!("parameter \"{name}\" cannot be changed"),
            ));
        }
        if let Some(Known { kind: Kind::User, name: what, .. }) = known {
            let user = self.value("session_authorization");
            return match value {
                Some(value) if value != user && (*what != "role" || value != "none") => {
                    let what = if *what == "role" { "role" } else { "session authorization" };
                    let message = format!("permission denied to set {what} \"{value}\"");
                    Err(SqlError::new(sqlstate::NOT_ALLOWED, message)
                        .with_hint("a session is its user's from beginning to end"))
                }
                _ => Ok(name),
            };
        }
        if known.is_none() {
            self.check_own(&name, value.unwrap_or_default())?;
        }
        match (value, known) {
            (None, Some(_)) => {
                self.values.remove(&name);
            }
            // A name that was made up stays, as in Postgres.
            (None, None) => {
                self.values.insert(name.clone(), String::new());
            }
            (Some(value), Some(known)) => {
                let value = check(known, value, &self.value(known.name))?;
                self.values.insert(name.clone(), value);
            }
            (Some(value), None) => {
                self.values.insert(name.clone(), value.to_string());
            }
        }
        Ok(name)
    }

    /// What a setting would be, of which the value ends at once; a name that was made up stays, as in Postgres.
    pub(crate) fn tried(&mut self, name: &str, value: Option<&str>) -> SqlResult<String> {
        let mut tried = self.clone();
        let name = tried.set(name, value)?;
        if find(&name).is_none() {
            self.values.entry(name.clone()).or_default();
        }
        Ok(tried.value(&name))
    }

    /// Settings of the client's own must stay within bounds: each savepoint copies them.
    fn check_own(&self, name: &str, value: &str) -> SqlResult<()> {
        let own =
            self.values.iter().filter(|(held, _)| held.as_str() != name && held.contains('.'));
        let held: usize = own.map(|(name, value)| name.len() + value.len()).sum();
        if held + name.len() + value.len() > OWN_BYTES_MAX {
            let message =
                format!("settings with a dot hold at most {OWN_BYTES_MAX} bytes together");
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, message));
        }
        Ok(())
    }

    /// The current value.
    pub(crate) fn get(&self, name: &str) -> SqlResult<(String, String)> {
        let name = canonical(name)?;
        let value = self
            .values
            .get(&name)
            .or_else(|| self.defaults.get(&name))
            .cloned()
            .or_else(|| find(&name).map(|k| k.default.to_string()));
        match value {
            Some(value) => Ok((name, value)),
            None => Err(SqlError::new(
                sqlstate::UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
            )),
        }
    }

    /// The value of a setting that is known to exist.
    pub(crate) fn value(&self, name: &str) -> String {
        self.get(name).map(|(_, value)| value).unwrap_or_default()
    }

    pub(crate) fn reset_all(&mut self) {
        self.values.retain(|name, _| find(name).is_none());
        self.values.values_mut().for_each(String::clear);
    }

    /// All values, by names in lower case; those that the client made up too.
    pub(crate) fn by_name(&self) -> BTreeMap<String, String> {
        let all = self.all().into_iter().map(|(name, value, _)| (name.to_lowercase(), value));
        let own = self.values.iter().filter(|(name, _)| find(name).is_none());
        all.chain(own.map(|(name, value)| (name.clone(), value.clone()))).collect()
    }

    /// Name, value and description of every known setting.
    pub(crate) fn all(&self) -> Vec<(String, String, String)> {
        let mut all: Vec<_> = KNOWN
            .iter()
            .map(|k| (k.name.to_string(), self.value(k.name), k.description.to_string()))
            .collect();
        all.sort_by_key(|(name, ..)| name.to_lowercase());
        all
    }

    /// Name and value of the settings that clients are told about.
    pub(crate) fn reported(&self) -> Vec<(String, String)> {
        let of = |k: &Known| (k.name.to_string(), self.value(k.name));
        KNOWN.iter().filter(|k| k.reported).map(of).collect()
    }

    /// Values of the settings that change the rows of an answer, or how its plan is made.
    pub(crate) fn of_answers(&self) -> Vec<String> {
        OF_ANSWERS.iter().map(|name| self.value(name)).collect()
    }

    /// The longest time of a statement, if bounded.
    pub(crate) fn statement_timeout(&self) -> Option<std::time::Duration> {
        self.duration("statement_timeout")
    }

    /// The value of a setting that is a time; none = 0.
    pub(crate) fn duration(&self, name: &str) -> Option<std::time::Duration> {
        match self.value(name).parse::<u64>() {
            Ok(ms) if ms > 0 => Some(std::time::Duration::from_millis(ms)),
            _ => None,
        }
    }

    /// The schemas of unqualified names, in order; `$user` becomes the user's name.
    pub(crate) fn search_path(&self, user: &str) -> Vec<String> {
        self.value("search_path")
            .split(',')
            .map(|part| part.trim().trim_matches('"'))
            .filter(|part| !part.is_empty())
            // The schema of a user named as Otus itself would show its system tables to everybody.
            .filter(|part| *part != "$user" || user != crate::provider::SYSTEM_SCHEMA)
            .map(|part| if part == "$user" { user.to_string() } else { part.to_string() })
            .collect()
    }
}

fn check(known: &Known, value: &str, current: &str) -> SqlResult<String> {
    let bad = |what: &str| {
        SqlError::new(
            sqlstate::INVALID_PARAMETER,
            format!("invalid value for parameter \"{}\": \"{value}\"", known.name),
        )
        .with_hint(what)
    };
    let text = value.trim();
    match known.kind {
        Kind::Text | Kind::User | Kind::ReadOnly => Ok(value.to_string()),
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".into()),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".into()),
            _ => Err(bad("on or off")),
        },
        Kind::Integer => match text.parse::<i64>() {
            Ok(n) => Ok(n.to_string()),
            Err(_) => Err(bad("a whole number")),
        },
        Kind::Between(least, most) => match text.parse::<i64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n.to_string()),
            Ok(n) => Err(SqlError::new(
                sqlstate::INVALID_PARAMETER,
                format!(
                    "{n} is outside the valid range for parameter \"{}\" ({least} .. {most})",
                    known.name
                ),
            )),
            Err(_) => Err(bad("a whole number")),
        },
        Kind::Duration => match duration_ms(text) {
            Some(ms) => Ok(ms.to_string()),
            None => Err(bad("milliseconds, or a number with ms, s, min, h or d")),
        },
        Kind::Zone => {
            zone(text).ok_or_else(|| bad("a name of the time-zone database, such as Europe/Berlin"))
        }
        Kind::DateStyle => date_style(text, current).ok_or_else(|| {
            bad("ISO, with MDY, DMY or YMD: dates are read and shown as in 2026-01-31")
        }),
        Kind::Encoding => match text.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "utf8" | "unicode" | "sqlascii" | "auto" => Ok("UTF8".into()),
            _ => Err(bad("UTF8")),
        },
        Kind::OneOf(list) => list
            .iter()
            .find(|v| v.eq_ignore_ascii_case(text))
            .map(|v| (*v).to_string())
            .ok_or_else(|| bad(&format!("one of {}", list.join(", ")))),
    }
}

/// `ISO` and an order of fields, either of which may be left out; the order is told, as dates are read as ISO
/// alone.
fn date_style(text: &str, current: &str) -> Option<String> {
    let mut order = current.split(", ").nth(1).unwrap_or("MDY");
    for word in text.split(',').map(str::trim) {
        match word.to_ascii_uppercase().as_str() {
            "ISO" => {}
            "MDY" | "US" | "NONEURO" | "NONEUROPEAN" => order = "MDY",
            "DMY" | "EURO" | "EUROPEAN" => order = "DMY",
            "YMD" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("ISO, {order}"))
}

fn duration_ms(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let number: u64 = digits.parse().ok()?;
    let unit = match text.strip_prefix(digits)?.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// The canonical name of a time zone. Offsets are refused: Postgres reads the sign of `+02:00` the other way
/// round than everybody else, so either reading would surprise.
fn zone(text: &str) -> Option<String> {
    let named = chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(text));
    named.map(|zone| zone.name().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_canonical() {
        let mut s = Settings::default();
        let mut check = |name: &str, value: &str, expected: Result<&str, &str>| {
            let got = s.set(name, Some(value)).map(|name| s.value(&name));
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{name}"),
                (Err(e), Err(expected)) => assert_eq!(e.sqlstate, expected, "{name}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        };
        check("timezone", "europe/berlin", Ok("Europe/Berlin"));
        check("TIMEZONE", "+02:00", Err("22023"));
        check("TimeZone", "Mars", Err("22023"));
        check("statement_timeout", "2s", Ok("2000"));
        check("statement_timeout", "soon", Err("22023"));
        check("datafusion.execution.batch_size", "1", Err("42704"));
        check("nonsense", "1", Err("42704"));
        check("my.setting", "x", Ok("x"));
        check("server_version", "1", Err("55P02"));
        check("client_encoding", "'utf-8'".trim_matches('\''), Ok("UTF8"));
        check("client_encoding", "latin1", Err("22023"));
        check("datestyle", "iso", Ok("ISO, MDY"));
        check("DateStyle", "ISO, DMY", Ok("ISO, DMY"));
        check("DateStyle", "iso", Ok("ISO, DMY"));
        check("DateStyle", "German", Err("22023"));
        check("extra_float_digits", "0", Ok("0"));
        check("extra_float_digits", "4", Err("22023"));
        check("my.long", &"x".repeat(70_000), Err("54000"));
    }

    #[test]
    fn reset_brings_back_what_the_session_began_with() {
        let mut s = Settings::default();
        s.set_default("timezone", "Asia/Tokyo").unwrap();
        s.set("timezone", Some("UTC")).unwrap();
        assert_eq!(s.value("TimeZone"), "UTC");
        s.set("timezone", None).unwrap();
        assert_eq!(s.value("TimeZone"), "Asia/Tokyo");
        assert_eq!(s.search_path("ann"), ["ann", "public"]);
    }
}
