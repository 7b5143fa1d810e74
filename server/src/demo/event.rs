//! One event of the demo's platform and its bytes on the log. JSON is written directly: laying down a month
//! must not be held up by its own generator.

use super::rhythm::MINUTE_MS;

pub(super) const GAMES: [&str; 6] = ["mahjong", "poker", "chess", "blocks", "racer", "rummy"];
pub(super) const MODES: [&str; 3] = ["casual", "ranked", "tournament"];
pub(super) const PLATFORMS: [&str; 4] = ["android", "ios", "web", "windows"];
pub(super) const COUNTRIES: [&str; 14] =
    ["SG", "ID", "CN", "JP", "US", "IN", "BR", "DE", "FR", "GB", "VN", "TH", "PH", "MY"];
pub(super) const ITEMS: [(&str, u32); 6] = [
    ("gems_100", 99),
    ("gems_550", 499),
    ("season_pass", 999),
    ("starter_pack", 199),
    ("gems_1200", 1_999),
    ("table_skin", 349),
];
pub(super) const ERRORS: [&str; 5] =
    ["timeout", "asset_missing", "bad_gateway", "out_of_memory", "desync"];
pub(super) const RESULTS: [&str; 3] = ["win", "loss", "draw"];

/// No mode, no country.
pub(super) const NONE: u8 = u8::MAX;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PlayerRegistered,
    SessionStart,
    SessionEnd,
    MatchStart,
    MatchEnd,
    StoreView,
    Purchase,
    ClientError,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::PlayerRegistered => "player_registered",
            Self::SessionStart => "session_start",
            Self::SessionEnd => "session_end",
            Self::MatchStart => "match_start",
            Self::MatchEnd => "match_end",
            Self::StoreView => "store_view",
            Self::Purchase => "purchase",
            Self::ClientError => "client_error",
        }
    }
}

/// One event, small: a month of them is sorted minute by minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// When it reaches the log.
    pub(super) at_ms: i64,
    /// When it happened.
    pub(super) time_ms: i64,
    pub(super) session: u64,
    pub(super) player: u32,
    /// Seconds, of a match or a session that ended.
    pub(super) duration_s: u32,
    /// Draws what is odd about it: absent fields, damage.
    pub(super) salt: u32,
    pub(super) release: u16,
    /// Place in its session.
    pub(super) order: u16,
    pub(super) kind: Kind,
    pub(super) game: u8,
    pub(super) mode: u8,
    pub(super) country: u8,
    pub(super) platform: u8,
    /// Index of the item, error or result.
    pub(super) detail: u8,
    pub(super) is_new: bool,
}

/// Writes events as JSON, remembering the minute it wrote last.
#[derive(Debug)]
pub(super) struct Writer {
    minute: i64,
    prefix: String,
}

impl Default for Writer {
    fn default() -> Self {
        Self { minute: i64::MIN, prefix: String::new() }
    }
}

impl Writer {
    /// Appends the event's record.
    pub(super) fn event(&mut self, out: &mut Vec<u8>, e: &Event) {
        let begin = out.len();
        out.extend_from_slice(b"{\"event\":\"");
        out.extend_from_slice(e.kind.name().as_bytes());
        let damage = e.salt % 20_000;
        if damage != 1 {
            out.extend_from_slice(b"\",\"time\":\"");
            if damage == 2 {
                out.extend_from_slice(b"yesterday")
            } else {
                self.time(out, e.time_ms)
            }
        }
        out.extend_from_slice(b"\",\"player_id\":");
        if damage == 3 {
            out.extend_from_slice(b"\"guest\"")
        } else {
            number(out, u64::from(e.player))
        }
        out.extend_from_slice(b",\"session\":\"");
        hex(out, e.session);
        out.extend_from_slice(b"\",\"game\":\"");
        out.extend_from_slice(GAMES[usize::from(e.game)].as_bytes());
        out.extend_from_slice(b"\",\"mode\":");
        name_or_null(out, MODES.get(usize::from(e.mode)));
        out.extend_from_slice(b",\"country\":");
        name_or_null(out, COUNTRIES.get(usize::from(e.country)));
        out.extend_from_slice(b",\"platform\":\"");
        out.extend_from_slice(PLATFORMS[usize::from(e.platform)].as_bytes());
        out.push(b'"');
        if PLATFORMS[usize::from(e.platform)] != "web" {
            out.extend_from_slice(b",\"client_version\":\"4.");
            number(out, u64::from(e.release));
            out.extend_from_slice(b".0\"");
        }
        out.extend_from_slice(if e.is_new { b",\"is_new\":true" } else { b",\"is_new\":false" });
        detail(out, e);
        out.push(b'}');
        if damage == 4 {
            out.truncate(begin + (out.len() - begin) / 2);
        }
    }

    /// Appends what the platform keeps about a player.
    pub(super) fn player(&mut self, out: &mut Vec<u8>, e: &Event) {
        out.extend_from_slice(b"{\"player_id\":");
        number(out, u64::from(e.player));
        out.extend_from_slice(b",\"country\":");
        name_or_null(out, COUNTRIES.get(usize::from(e.country)));
        out.extend_from_slice(b",\"platform\":\"");
        out.extend_from_slice(PLATFORMS[usize::from(e.platform)].as_bytes());
        out.extend_from_slice(b"\",\"favourite\":\"");
        out.extend_from_slice(GAMES[usize::from(e.game)].as_bytes());
        out.extend_from_slice(b"\",\"level\":");
        let level = if e.kind == Kind::PlayerRegistered { 1 } else { 2 + e.salt % 60 };
        number(out, u64::from(level));
        out.extend_from_slice(b",\"seen_at\":\"");
        self.time(out, e.time_ms);
        out.extend_from_slice(b"\"}");
    }

    fn time(&mut self, out: &mut Vec<u8>, ms: i64) {
        let minute = ms.div_euclid(MINUTE_MS);
        if minute != self.minute {
            self.minute = minute;
            let at = chrono::DateTime::from_timestamp_millis(minute * MINUTE_MS);
            self.prefix = at.map(|t| t.format("%Y-%m-%dT%H:%M:").to_string()).unwrap_or_default();
        }
        out.extend_from_slice(self.prefix.as_bytes());
        let rest = u32::try_from(ms.rem_euclid(MINUTE_MS)).unwrap_or(0);
        let digit = |n: u32| b'0' + u8::try_from(n % 10).unwrap_or(0);
        let (s, ms) = (rest / 1_000, rest % 1_000);
        out.extend_from_slice(&[
            digit(s / 10),
            digit(s),
            b'.',
            digit(ms / 100),
            digit(ms / 10),
            digit(ms),
            b'Z',
        ]);
    }
}

fn detail(out: &mut Vec<u8>, e: &Event) {
    let pick = usize::from(e.detail);
    match e.kind {
        Kind::Purchase => {
            let (item, cents) = ITEMS[pick % ITEMS.len()];
            out.extend_from_slice(b",\"store\":{\"item\":\"");
            out.extend_from_slice(item.as_bytes());
            out.extend_from_slice(b"\"},\"amount\":");
            number(out, u64::from(cents / 100));
            out.push(b'.');
            out.push(b'0' + u8::try_from(cents / 10 % 10).unwrap_or(0));
            out.push(b'0' + u8::try_from(cents % 10).unwrap_or(0));
        }
        Kind::StoreView => {
            out.extend_from_slice(b",\"store\":{\"item\":\"");
            out.extend_from_slice(ITEMS[pick % ITEMS.len()].0.as_bytes());
            out.extend_from_slice(b"\"}");
        }
        Kind::ClientError => {
            out.extend_from_slice(b",\"error\":\"");
            out.extend_from_slice(ERRORS[pick % ERRORS.len()].as_bytes());
            out.push(b'"');
        }
        Kind::MatchEnd => {
            out.extend_from_slice(b",\"result\":\"");
            out.extend_from_slice(RESULTS[pick % RESULTS.len()].as_bytes());
            out.extend_from_slice(b"\",\"duration_s\":");
            number(out, u64::from(e.duration_s));
        }
        Kind::SessionEnd => {
            out.extend_from_slice(b",\"duration_s\":");
            number(out, u64::from(e.duration_s));
        }
        Kind::PlayerRegistered | Kind::SessionStart | Kind::MatchStart => {}
    }
}

/// Appends a number in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn hex(out: &mut Vec<u8>, n: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..12).rev() {
        out.push(DIGITS[usize::try_from((n >> (shift * 4)) & 15).unwrap_or(0)]);
    }
}

fn name_or_null(out: &mut Vec<u8>, name: Option<&&str>) {
    match name {
        Some(name) => {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}
