//! Conditions on the event time and keys made of it, in the forms that people and tools write.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;
use otus_engine::time::{DAY_US, Granularity, SECOND_US};

use super::Grammar;
use crate::tests::fuzz::query::{Frag, Item};
use crate::tests::fuzz::table::Nature;

/// Widths of buckets that are counted from the epoch, seconds.
const WIDTHS: [i64; 7] = [1, 60, 300, 420, 900, 3_600, 86_400];

fn utc(us: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap()
}

/// What the clocks of a zone show, as microseconds.
fn local_us(us: i64, zone: &str) -> i64 {
    let zone = Tz::from_str(zone).unwrap();
    let offset = zone.offset_from_utc_datetime(&utc(us).naive_utc()).fix();
    us + i64::from(offset.local_minus_utc()) * SECOND_US
}

/// Start of the bucket by the clocks of a zone, near enough where they change.
fn floor_in(unit: Granularity, us: i64, zone: &str) -> i64 {
    let local = local_us(us, zone);
    us - (local - unit.floor_us(local))
}

impl Grammar<'_> {
    /// The event-time column.
    pub(super) fn time(&self) -> Frag {
        Frag::new(self.table.time().sql.clone())
    }

    fn has_zone(&self) -> bool {
        self.table.time().sql_type == "timestamptz"
    }

    /// An instant, as a literal of one of many forms.
    fn instant(&mut self, us: i64) -> Frag {
        if !self.has_zone() {
            return self.clock(us);
        }
        let zulu = utc(us).format("%Y-%m-%dT%H:%M:%S%.fZ").to_string();
        let shown = utc(us).format("%Y-%m-%d %H:%M:%S%.f+00").to_string();
        let local = local_us(us, &self.zone);
        match self.chance.weighted(&[22, 12, 12, 6, 8, 10, 14, 8, 8]) {
            0 => Frag::new(format!("'{zulu}'")),
            1 => Frag::new(format!("TIMESTAMPTZ '{shown}'")),
            2 => Frag::new(format!("'{shown}'::timestamptz")),
            3 => Frag::new(format!("CAST('{zulu}' AS timestamp with time zone)")),
            4 => Frag::new(format!("'{}'", utc(local).format("%Y-%m-%d %H:%M:%S%.f"))),
            5 if us % SECOND_US == 0 => Frag::new(format!("to_timestamp({})", us / SECOND_US)),
            6 => Frag::param(ScalarValue::TimestampMicrosecond(Some(us), Some(Arc::from("UTC")))),
            7 => Frag::new(format!(
                "'{}'::timestamptz + INTERVAL '90 minutes'",
                utc(us - 5_400 * SECOND_US).format("%Y-%m-%dT%H:%M:%S%.fZ")
            )),
            8 if local % DAY_US == 0 => {
                let date = utc(local).format("%Y-%m-%d");
                Frag::new(if self.chance.percent(50) {
                    format!("DATE '{date}'")
                } else {
                    format!("'{date}'")
                })
            }
            _ => Frag::new(format!("'{zulu}'")),
        }
    }

    /// A literal for a column without zone.
    fn clock(&mut self, us: i64) -> Frag {
        let shown = utc(us).format("%Y-%m-%d %H:%M:%S%.f").to_string();
        match self.chance.weighted(&[30, 20, 15, 15, 10, 10]) {
            0 => Frag::new(format!("'{shown}'")),
            1 => Frag::new(format!("TIMESTAMP '{shown}'")),
            2 => Frag::new(format!("'{shown}'::timestamp")),
            3 => Frag::param(ScalarValue::TimestampMicrosecond(Some(us), None)),
            4 if us % DAY_US == 0 => Frag::new(format!("DATE '{}'", utc(us).format("%Y-%m-%d"))),
            5 => Frag::new(format!("TIMESTAMPTZ '{shown}+00'")),
            _ => Frag::new(format!("'{shown}'")),
        }
    }

    /// A moment in or near the table's range: on an edge, next to one, or anywhere.
    fn moment(&mut self) -> i64 {
        let (from, span) = (self.table.base_us, self.table.span_us);
        let any = match self.chance.weighted(&[93, 4, 3]) {
            0 => self.chance.between(from, from + span),
            1 => self.chance.between(from - span, from + 2 * span),
            _ => self.chance.between(from - 400 * DAY_US, from + 400 * DAY_US),
        };
        let unit = *self.chance.of(&self.target.granularities);
        match self.chance.weighted(&[14, 10, 8, 6, 36, 26]) {
            0 => unit.floor_us(any),
            1 => floor_in(Granularity::Hour, any, &self.zone),
            2 => floor_in(Granularity::Day, any, &self.zone),
            3 => unit.floor_us(any) + self.chance.of(&[-1, 1]),
            4 => any,
            _ => any.div_euclid(SECOND_US) * SECOND_US,
        }
    }

    /// Conjuncts over the event time; often none, rarely ones that nothing fulfils.
    pub(super) fn time_conditions(&mut self) -> Vec<Frag> {
        if self.chance.percent(6) {
            return vec![self.odd_condition()];
        }
        let (mut from, mut to) = (self.moment(), self.moment());
        let middle = self.table.base_us + self.table.span_us / 2;
        if self.chance.percent(85) && (from < middle) == (to < middle) {
            // Ranges that hold whole buckets are the ones of interest.
            to = self.table.base_us + self.table.span_us - (to - self.table.base_us);
        }
        match self.chance.weighted(&[10, 73, 8, 8, 1, 1]) {
            0 => return Vec::new(),
            1 => (from, to) = (from.min(to), from.max(to)),
            2 => return vec![self.lower(from)],
            3 => return vec![self.upper(to)],
            4 => to = from,
            _ => (from, to) = (from.max(to), from.min(to)),
        }
        self.range(from, to)
    }

    fn range(&mut self, from: i64, to: i64) -> Vec<Frag> {
        let time = self.time();
        match self.chance.weighted(&[60, 15, 10, 15]) {
            0 => vec![self.lower(from), self.upper(to)],
            1 => {
                let (a, b) = (self.instant(from), self.instant(to - 1));
                vec![Frag::of("{} BETWEEN {} AND {}", &[time, a, b])]
            }
            2 => {
                let middle = from + (to - from) / 3;
                let later = from + (to - from) / 2;
                let parts =
                    [self.lower(from), self.upper(middle), self.lower(later), self.upper(to)];
                vec![Frag::of("({} AND {} OR {} AND {})", &parts)]
            }
            _ => {
                let (a, b) = (self.lower(from), self.upper(to));
                let c = self.instant(from - 7 * SECOND_US);
                vec![b, Frag::of("{} > {}", &[time, c]), a]
            }
        }
    }

    fn lower(&mut self, us: i64) -> Frag {
        let t = self.time();
        if let Some(frag) = self.bucketed(us, ">=") {
            return frag;
        }
        match self.chance.weighted(&[50, 15, 15, 15, 5]) {
            4 => Frag::of(
                "{} - INTERVAL '1 day 30 minutes' >= {}",
                &[t, self.instant(us - DAY_US - 1_800 * SECOND_US)],
            ),
            0 => Frag::of("{} >= {}", &[t, self.instant(us)]),
            1 => Frag::of("{} <= {}", &[self.instant(us), t]),
            2 => Frag::of("{} > {}", &[t, self.instant(us - 1)]),
            _ => Frag::of("NOT ({} < {})", &[t, self.instant(us)]),
        }
    }

    fn upper(&mut self, us: i64) -> Frag {
        let t = self.time();
        if let Some(frag) = self.bucketed(us, "<") {
            return frag;
        }
        match self.chance.weighted(&[55, 15, 15, 15]) {
            0 => Frag::of("{} < {}", &[t, self.instant(us)]),
            1 => Frag::of("{} > {}", &[self.instant(us), t]),
            2 => Frag::of("{} <= {}", &[t, self.instant(us - 1)]),
            _ => Frag::of("NOT ({} >= {})", &[t, self.instant(us)]),
        }
    }

    /// A bound on something made of the time; exact only if the moment is on the edge of a bucket.
    fn bucketed(&mut self, us: i64, op: &str) -> Option<Frag> {
        if !self.chance.percent(30) {
            return None;
        }
        let t = self.time();
        let seconds = us.div_euclid(SECOND_US);
        let width = *self.chance.of(&WIDTHS);
        Some(match self.chance.below(8) {
            0 => Frag::of(&format!("extract(epoch FROM {{}}) {op} {seconds}"), &[t]),
            1 => {
                let unit = self.unit();
                let bound = self.instant(us);
                Frag::of(&format!("date_trunc('{unit}', {{}}) {op} {{}}"), &[t, bound])
            }
            2 => {
                let bound = seconds.div_euclid(width) * width;
                let key =
                    format!("floor(extract(epoch FROM {{}}) / {width}) * {width} {op} {bound}");
                Frag::of(&key, &[t])
            }
            3 if self.has_zone() => {
                let key =
                    format!("to_timestamp(floor(extract(epoch FROM {{}}) / {width}) * {width})");
                let bound = seconds.div_euclid(width) * width;
                Frag::of(&format!("{key} {op} to_timestamp({bound})"), &[t])
            }
            4 => {
                let day = utc(us).format("%Y-%m-%d");
                Frag::of(&format!("{{}}::date {op} DATE '{day}'"), &[t])
            }
            5 => {
                let shown = utc(local_us(us, &self.zone)).format("%Y-%m-%d %H:%M:%S%.f");
                Frag::of(&format!("{{}}::timestamp {op} TIMESTAMP '{shown}'"), &[t])
            }
            6 => {
                let bucket = self.time_bucket(width);
                Frag::of(&format!("{bucket} {op} {{}}"), &[self.instant(us)])
            }
            _ => {
                let minutes = width.max(60) / 60;
                let bound = self.instant(us);
                let key = format!("date_bin(INTERVAL '{minutes} minutes', {{}}) {op} {{}}");
                Frag::of(&key, &[t, bound])
            }
        })
    }

    /// Conditions that are no plain range.
    fn odd_condition(&mut self) -> Frag {
        let t = self.time();
        let at = self.moment();
        let start = self.target.finest().floor_us(at);
        match self.chance.below(9) {
            0 => Frag::of(
                &format!("date_trunc('{}', {{}}) = {{}}", self.unit()),
                &[t, self.instant(start)],
            ),
            1 => {
                let other = self.target.finest().floor_us(self.moment());
                let list = [t, self.instant(start), self.instant(other)];
                Frag::of(&format!("date_trunc('{}', {{}}) IN ({{}}, {{}})", self.unit()), &list)
            }
            2 => Frag::of("extract(hour FROM {}) = 5", &[t]),
            3 => Frag::of("extract(minute FROM {}) < 30", &[t]),
            4 => Frag::of("{} IS NOT NULL", &[t]),
            5 => Frag::of("{} = {}", &[t, self.instant(at)]),
            6 => Frag::of(
                "{}::date = {}",
                &[
                    t,
                    Frag::new(format!(
                        "DATE '{}'",
                        utc(local_us(at, &self.zone)).format("%Y-%m-%d")
                    )),
                ],
            ),
            7 => Frag::of("{} <> {}", &[t, self.instant(at)]),
            _ => {
                let (a, b) = (self.upper(at), self.moment());
                let b = self.lower(b);
                Frag::of("({} OR {})", &[a, b])
            }
        }
    }

    fn unit(&mut self) -> &'static str {
        let names = self.target.granularities.iter().map(|g| g.name());
        let mut names: Vec<_> = names.filter(|n| !n.contains('_')).collect();
        names.extend(names.clone());
        let finest = self.target.finest();
        let any = self.chance.percent(15);
        let others = [Granularity::Hour, Granularity::Day, Granularity::Week, Granularity::Month];
        let others = others.into_iter().filter(|unit| any || finest.divides(*unit));
        names.extend(others.map(Granularity::name));
        if self.target.granularities.contains(&Granularity::Week) {
            names.extend(["month", "month", "month", "month"]);
        }
        names[self.chance.below(names.len())]
    }

    /// Seconds of a bucket; most times one that buckets of the target make up.
    fn width(&mut self) -> i64 {
        let finest = self.target.finest().fixed_us().unwrap_or(DAY_US);
        let fit: Vec<i64> =
            WIDTHS.into_iter().filter(|width| (width * SECOND_US) % finest == 0).collect();
        match fit.is_empty() || self.chance.percent(15) {
            true => *self.chance.of(&WIDTHS),
            false => *self.chance.of(&fit),
        }
    }

    /// A group key made of the time.
    pub(super) fn time_key(&mut self) -> Item {
        let t = self.table.time().sql.clone();
        let exact = |sql: String| Item::new(sql, Nature::Exact);
        let width = self.width();
        if self.target.granularities.contains(&Granularity::Week) && self.chance.percent(25) {
            // Weeks make up no months.
            return exact(format!("date_trunc('month', {t})"));
        }
        match self.chance.weighted(&[70, 8, 7, 8, 6, 8, 6, 5, 5, 4, 3, 3, 2]) {
            0 => exact(format!("date_trunc('{}', {t})", self.unit())),
            1 => exact(format!("date_bin(INTERVAL '{} minutes', {t})", width.max(60) / 60)),
            2 => {
                let part = match self.target.finest() < Granularity::Day {
                    true => self.chance.word(&["hour", "dow", "day", "month", "minute", "isodow"]),
                    false => self.chance.word(&["dow", "day", "month", "isodow", "hour"]),
                };
                exact(format!("extract({part} FROM {t})"))
            }
            3 => exact(format!("floor(extract(epoch FROM {t}) / {width}) * {width}")),
            4 => exact(format!("to_timestamp(floor(extract(epoch FROM {t}) / {width}) * {width})")),
            5 => exact(format!("{t}::date")),
            6 => exact(format!("date_trunc('{}', {t})::date", self.unit())),
            7 => {
                let origin = self.chance.word(&["1970-01-01T00:00:00", "2001-01-01T00:07:00"]);
                let zone = if self.has_zone() { "Z'::timestamptz" } else { "'::timestamp" };
                let minutes = width.max(60) / 60;
                exact(format!("date_bin(INTERVAL '{minutes} minutes', {t}, '{origin}{zone})"))
            }
            8 => exact(format!("to_char(date_trunc('{}', {t}), 'YYYY-MM-DD HH24')", self.unit())),
            9 => exact(self.time_bucket(width)),
            10 => {
                let minutes = self.target.finest() < Granularity::Hour;
                let pattern = match self.target.finest() < Granularity::Day {
                    true if minutes => self.chance.word(&["YYYY-MM-DD HH24:MI", "FMDay HH12 AM"]),
                    true => self.chance.word(&["YYYY-MM-DD HH24:00", "Dy HH24", "IYYY-IW"]),
                    false => self.chance.word(&["YYYY-MM", "IYYY-IW", "DDD", "YYYY Q"]),
                };
                exact(format!("to_char({t}, '{pattern}')"))
            }
            11 => exact(format!("date_trunc('{}', {t}::timestamp)", self.unit())),
            _ => {
                let span = self.chance.word(&["1 day", "-2 days", "6 hours", "90 minutes"]);
                let span = format!("INTERVAL '{span}'");
                exact(format!("date_trunc('{}', {t} + {span}) - {span}", self.unit()))
            }
        }
    }

    /// Buckets of any length, zone and origin.
    fn time_bucket(&mut self, width: i64) -> String {
        let t = self.table.time().sql.clone();
        let times = self.chance.between(1, 7);
        let length = match self.chance.weighted(&[60, 25, 15]) {
            0 => format!("{} seconds", width * times),
            1 => format!("{times} days"),
            _ => format!("{times} months"),
        };
        let mut more = String::new();
        if self.has_zone() && self.chance.percent(40) {
            let zone = self.chance.word(&["UTC", "Europe/Berlin", "America/New_York"]);
            more.push_str(&format!(", '{zone}'"));
        }
        if self.chance.percent(30) {
            let origin = self.chance.word(&["2001-01-01 00:00:00", "2003-05-07 06:00:00"]);
            let kind = if self.has_zone() { "timestamptz" } else { "timestamp" };
            more.push_str(&format!(", {kind} '{origin}'"));
        }
        format!("time_bucket('{length}', {t}{more})")
    }
}
