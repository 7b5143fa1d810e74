//! A deterministic game platform. A minute's sessions are a pure function of (seed, minute, factor); every
//! session is written out at once and its events wait in the minute in which they reach the log. So the
//! generator can begin at any moment: it plays the hours before it and throws away what came earlier.

use std::collections::VecDeque;
use std::ops::Range;

use super::event::{COUNTRIES, ERRORS, Event, GAMES, ITEMS, Kind, NONE, Writer, number};
use super::rhythm::{self, Chance, MINUTE_MS};

/// Events per second over a month at factor 1.
pub(crate) const NATURAL_RATE: f64 = 1.93;
/// Sessions of known players per minute, on average, that give [`NATURAL_RATE`].
const SESSIONS_PER_MINUTE: f64 = 10.88;
/// Longest time between a session's begin and the arrival of its last event.
const MEMORY_MINUTES: i64 = 8 * 60;
/// Longest session.
const SESSION_MS_MAX: i64 = 90 * MINUTE_MS;
/// Longest time for which an event is held up on its way, except by an outage.
const LATE_MS_MAX: i64 = 3 * 60 * MINUTE_MS;
/// Players among whom most sessions are shared out.
const ACTIVE_PLAYERS: f64 = 40_000.0;

const _: () = assert!(SESSION_MS_MAX + LATE_MS_MAX + 3 * 3_600_000 <= MEMORY_MINUTES * MINUTE_MS);

/// Which topic a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// What happened.
    Events,
    /// The latest state of each player, by key.
    Players,
}

/// A record, as ranges into its [`Block`].
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) topic: Topic,
    pub(crate) at_ms: i64,
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// Some records in the order in which they reach the log.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Made>,
}

/// The platform at one moment.
#[derive(Debug)]
pub(crate) struct Generator {
    seed: u64,
    factor: f64,
    /// Arrivals before this are left out.
    from_ms: i64,
    /// The next minute whose sessions begin.
    minute: i64,
    /// Events that arrive in `minute`, the one after it, and so on.
    waiting: VecDeque<Vec<Event>>,
    /// Events of the last finished minute that were not yet taken, in order.
    ready: VecDeque<Event>,
    writer: Writer,
}

impl Generator {
    /// A platform whose first record arrives at or after `from_ms`, `factor` times as busy as natural.
    pub(crate) fn new(seed: u64, factor: f64, from_ms: i64) -> Self {
        Self {
            seed,
            factor,
            from_ms,
            minute: from_ms.div_euclid(MINUTE_MS) - MEMORY_MINUTES,
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            writer: Writer::default(),
        }
    }

    /// Adds the next records that arrive before `until_ms`, some `limit` of them at most. Returns whether
    /// there may be more before `until_ms`.
    pub(crate) fn fill(&mut self, until_ms: i64, limit: usize, block: &mut Block) -> bool {
        loop {
            while let Some(event) = self.ready.front() {
                if event.at_ms >= until_ms {
                    return false;
                }
                if block.records.len() >= limit {
                    return true;
                }
                let event = *event;
                self.ready.pop_front();
                self.write(&event, block);
            }
            if self.minute * MINUTE_MS >= until_ms {
                return false;
            }
            self.play_minute();
        }
    }

    fn write(&mut self, event: &Event, block: &mut Block) {
        let key_at = block.bytes.len();
        number(&mut block.bytes, u64::from(event.player));
        let value_at = block.bytes.len();
        self.writer.event(&mut block.bytes, event);
        let key = key_at..value_at;
        block.records.push(Made {
            topic: Topic::Events,
            at_ms: event.at_ms,
            key: key.clone(),
            value: value_at..block.bytes.len(),
        });
        let levelled = event.kind == Kind::SessionEnd && event.salt.is_multiple_of(8);
        if event.kind == Kind::PlayerRegistered || levelled {
            let value_at = block.bytes.len();
            self.writer.player(&mut block.bytes, event);
            let value = value_at..block.bytes.len();
            let (topic, at_ms) = (Topic::Players, event.at_ms);
            block.records.push(Made { topic, at_ms, key, value });
        }
    }

    /// Lets the sessions of one minute begin and moves its arrivals to `ready`.
    fn play_minute(&mut self) {
        let at_ms = self.minute * MINUTE_MS;
        let before = rhythm::registered_before(at_ms);
        let after = rhythm::registered_before(at_ms + MINUTE_MS);
        for player in before..after {
            let mut chance = Chance::of(self.seed, self.minute, u64::from(player) | 1 << 40);
            self.session(&mut chance, at_ms, player + 1, true);
        }
        let mut chance = Chance::of(self.seed, self.minute, 1 << 41);
        let expected = SESSIONS_PER_MINUTE * self.factor * rhythm::traffic(at_ms);
        let sessions = rhythm::rounded(expected * (0.85 + 0.3 * chance.unit()) + chance.unit());
        for n in 0..sessions {
            let mut chance = Chance::of(self.seed, self.minute, u64::from(n));
            let back = rhythm::rounded(chance.unit().powi(3) * ACTIVE_PLAYERS);
            let player = before.saturating_sub(back).max(1);
            self.session(&mut chance, at_ms, player, false);
        }
        let mut arrived = self.waiting.pop_front().unwrap_or_default();
        self.minute += 1;
        arrived.retain(|e| e.at_ms >= self.from_ms);
        arrived.sort_unstable_by_key(|e| (e.at_ms, e.session, e.order));
        self.ready.extend(arrived);
    }

    /// Writes out one whole session.
    fn session(&mut self, chance: &mut Chance, minute_ms: i64, player: u32, registers: bool) {
        let mut session = Session::begin(chance, minute_ms, player, registers);
        if rhythm::outage(session.clock_ms).is_some() {
            for _ in 0..=chance.below(2) {
                session.clock_ms += i64::from(2_000 + chance.below(20_000));
                let event = session.event(chance, Kind::ClientError);
                self.arrive(chance, Event { detail: 2, ..event });
            }
            return;
        }
        if registers {
            let event = session.event(chance, Kind::PlayerRegistered);
            self.arrive(chance, event);
            session.clock_ms += i64::from(200 + chance.below(3_000));
        }
        let event = session.event(chance, Kind::SessionStart);
        self.arrive(chance, event);
        let begin_ms = session.clock_ms;
        let end_ms = begin_ms + SESSION_MS_MAX;
        for _ in 0..1 + chance.below(6) {
            self.play(chance, &mut session);
            if session.clock_ms + 15 * MINUTE_MS > end_ms {
                break;
            }
        }
        session.clock_ms += i64::from(1_000 + chance.below(60_000));
        let event = session.event(chance, Kind::SessionEnd);
        let duration_s = seconds(session.clock_ms - begin_ms);
        self.arrive(chance, Event { duration_s, ..event });
    }

    /// A match, and what a player does around it.
    fn play(&mut self, chance: &mut Chance, session: &mut Session) {
        session.clock_ms += i64::from(3_000 + chance.below(40_000));
        let mode = u8::try_from(chance.weighted(&[60, 33, 7])).unwrap_or(0);
        let start = Event { mode, ..session.event(chance, Kind::MatchStart) };
        self.arrive(chance, start);
        let length_ms = i64::from(40_000 + chance.below(560_000));
        if chance.once_in(session.error_odds) {
            session.clock_ms += i64::from(chance.below(40_000));
            let event = session.event(chance, Kind::ClientError);
            let detail = u8::try_from(chance.below(as_u32(ERRORS.len()))).unwrap_or(0);
            self.arrive(chance, Event { mode, detail, ..event });
        }
        session.clock_ms += length_ms;
        let detail = u8::try_from(chance.weighted(&[47, 47, 6])).unwrap_or(0);
        let end = session.event(chance, Kind::MatchEnd);
        self.arrive(chance, Event { mode, detail, duration_s: seconds(length_ms), ..end });
        if chance.once_in(3) {
            session.clock_ms += i64::from(2_000 + chance.below(30_000));
            let detail = u8::try_from(chance.below(as_u32(ITEMS.len()))).unwrap_or(0);
            let view = session.event(chance, Kind::StoreView);
            self.arrive(chance, Event { detail, ..view });
            if chance.once_in(session.purchase_odds) {
                session.clock_ms += i64::from(4_000 + chance.below(30_000));
                let purchase = session.event(chance, Kind::Purchase);
                self.arrive(chance, Event { detail, ..purchase });
            }
        }
    }

    /// Puts an event into the minute of its arrival.
    fn arrive(&mut self, chance: &mut Chance, mut event: Event) {
        event.at_ms = event.time_ms + i64::from(30 + chance.below(400));
        if chance.once_in(70) {
            // Held up on a phone without network: mostly seconds, sometimes hours.
            let share = chance.unit().powi(4);
            event.at_ms += i64::from(rhythm::rounded(share * rhythm::small(LATE_MS_MAX)));
        }
        if let Some((_, to)) = rhythm::outage(event.at_ms)
            && event.kind != Kind::ClientError
        {
            if !chance.once_in(3) {
                return;
            }
            // The client tried again once the platform was back.
            event.at_ms = to + i64::from(chance.below(600_000));
        }
        let ahead = event.at_ms.div_euclid(MINUTE_MS) - self.minute;
        let Ok(ahead) = usize::try_from(ahead) else { return };
        if self.waiting.len() <= ahead {
            self.waiting.resize_with(ahead + 1, Vec::new);
        }
        self.waiting[ahead].push(event);
    }
}

/// What stays the same during a session, and its clock.
struct Session {
    id: u64,
    clock_ms: i64,
    player: u32,
    order: u16,
    release: u16,
    game: u8,
    country: u8,
    platform: u8,
    is_new: bool,
    error_odds: u32,
    purchase_odds: u32,
}

impl Session {
    fn begin(chance: &mut Chance, minute_ms: i64, player: u32, registers: bool) -> Self {
        let clock_ms = minute_ms + i64::from(chance.below(60_000));
        // What a player is never changes; what a player likes mostly not.
        let mut person = Chance::of(u64::from(player), 7, 7);
        let country = person.weighted(&[18, 16, 14, 9, 9, 8, 6, 4, 3, 3, 3, 3, 2, 2]);
        let platform = person.weighted(&[46, 34, 14, 6]);
        let favourite = person.weighted(&[30, 22, 16, 14, 11, 7]);
        let generous = person.once_in(12);
        let game =
            if chance.once_in(4) { chance.below(as_u32(GAMES.len())) as usize } else { favourite };
        let release = rhythm::release_of(player, clock_ms);
        let (newest, age_ms) = rhythm::release(clock_ms);
        // A fresh release crashes on Android until it is mended six hours later.
        let fresh = release == newest && age_ms < 6 * 60 * MINUTE_MS && platform == 0;
        let day_ms = 24 * 60 * MINUTE_MS;
        Self {
            id: chance.bits(),
            clock_ms,
            player,
            order: 0,
            release,
            game: u8::try_from(game).unwrap_or(0),
            country: u8::try_from(country).unwrap_or(0),
            platform: u8::try_from(platform).unwrap_or(0),
            is_new: registers || player > rhythm::registered_before(clock_ms - day_ms),
            error_odds: if fresh { 4 } else { 45 },
            purchase_odds: if generous { 3 } else { 22 },
        }
    }

    fn event(&mut self, chance: &mut Chance, kind: Kind) -> Event {
        self.order += 1;
        let salt = u32::try_from(chance.bits() >> 32).unwrap_or(0);
        let known = usize::from(self.country) < COUNTRIES.len() && salt % 101 != 0;
        Event {
            at_ms: self.clock_ms,
            time_ms: self.clock_ms,
            session: self.id,
            player: self.player,
            duration_s: 0,
            salt,
            release: self.release,
            order: self.order,
            kind,
            game: self.game,
            mode: NONE,
            country: if known { self.country } else { NONE },
            platform: self.platform,
            detail: 0,
            is_new: self.is_new,
        }
    }
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(0)
}

fn as_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOON: i64 = 1_784_548_800_000;

    fn lines(factor: f64, from_ms: i64, until_ms: i64) -> Vec<(Topic, i64, String)> {
        let mut generator = Generator::new(7, factor, from_ms);
        let mut block = Block::default();
        while generator.fill(until_ms, 1_000, &mut block) {
            let next = block.records.len() + 1_000;
            if !generator.fill(until_ms, next, &mut block) {
                break;
            }
        }
        let text = |m: &Made| String::from_utf8(block.bytes[m.value.clone()].to_vec()).unwrap();
        block.records.iter().map(|m| (m.topic, m.at_ms, text(m))).collect()
    }

    #[test]
    fn any_moment_can_be_made_again() {
        let hour = 60 * MINUTE_MS;
        let whole = lines(1.0, NOON, NOON + 3 * hour);
        let later = lines(1.0, NOON + hour + 12_345, NOON + 3 * hour);
        let cut: Vec<_> =
            whole.iter().filter(|(_, at, _)| *at >= NOON + hour + 12_345).cloned().collect();
        assert!(whole.len() > 10_000 / 2, "{}", whole.len());
        assert_eq!(cut, later);
        assert!(whole.is_sorted_by_key(|(_, at, _)| *at));
    }

    #[test]
    fn a_week_holds_what_it_should() {
        let day = 24 * 60 * MINUTE_MS;
        let week = lines(1.0, NOON, NOON + 7 * day);
        let events = week.iter().filter(|(topic, ..)| *topic == Topic::Events);
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        let (mut bad, mut late, mut total) = (0, 0, 0u32);
        for (_, at, text) in events {
            total += 1;
            let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
                bad += 1;
                continue;
            };
            let kind = value["event"].as_str().unwrap().to_string();
            *kinds.entry(kind).or_default() += 1;
            let time = value["time"].as_str().unwrap_or_default();
            if let Ok(time) = chrono::DateTime::parse_from_rfc3339(time) {
                late += usize::from(at - time.timestamp_millis() > 10 * MINUTE_MS);
            }
        }
        let rate = f64::from(total) / (7.0 * 86_400.0);
        assert!((rate / NATURAL_RATE - 1.0).abs() < 0.05, "{rate} events per second, {kinds:?}");
        assert_eq!(kinds.len(), 8, "{kinds:?}");
        assert!(bad > 20 && late > 2_000, "{bad} bad, {late} late");
        assert!(kinds["purchase"] > 5_000 && kinds["client_error"] > 5_000, "{kinds:?}");
    }
}
