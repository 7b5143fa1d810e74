//! Granularities of rollups and the one bucket function over UTC instants.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY_US: i64 = 86_400 * SECOND_US;

/// The size of a time bucket, from fine to coarse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// Five minutes.
    FiveMinute,
    /// Fifteen minutes.
    FifteenMinute,
    /// One hour.
    Hour,
    /// One UTC day.
    Day,
    /// One ISO week, from Monday.
    Week,
    /// One calendar month.
    Month,
    /// One calendar quarter.
    Quarter,
    /// One calendar year.
    Year,
}

impl Granularity {
    /// All, from fine to coarse.
    pub const ALL: [Self; 10] = [
        Self::Second,
        Self::Minute,
        Self::FiveMinute,
        Self::FifteenMinute,
        Self::Hour,
        Self::Day,
        Self::Week,
        Self::Month,
        Self::Quarter,
        Self::Year,
    ];

    /// The name in configuration, view names and SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::FiveMinute => "five_minute",
            Self::FifteenMinute => "fifteen_minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    /// Length in microseconds, for those of fixed length (up to a week).
    pub fn fixed_us(self) -> Option<i64> {
        Some(match self {
            Self::Second => SECOND_US,
            Self::Minute => 60 * SECOND_US,
            Self::FiveMinute => 300 * SECOND_US,
            Self::FifteenMinute => 900 * SECOND_US,
            Self::Hour => 3_600 * SECOND_US,
            Self::Day => DAY_US,
            Self::Week => 7 * DAY_US,
            _ => return None,
        })
    }

    /// Start of the UTC bucket that holds `ts_us`, microseconds since the epoch.
    pub fn floor_us(self, ts_us: i64) -> i64 {
        match self {
            // 1970-01-01 was a Thursday: ISO weeks begin three days earlier.
            Self::Week => (ts_us + 3 * DAY_US).div_euclid(7 * DAY_US) * (7 * DAY_US) - 3 * DAY_US,
            Self::Month | Self::Quarter | Self::Year => self.floor_calendar(ts_us),
            _ => {
                let width = self.fixed_us().unwrap_or(SECOND_US);
                ts_us.div_euclid(width) * width
            }
        }
    }

    /// Start of the bucket after the one that holds `ts_us`.
    pub fn next_us(self, ts_us: i64) -> i64 {
        let start = self.floor_us(ts_us);
        match self.fixed_us() {
            Some(width) => start + width,
            None => {
                let days = match self {
                    Self::Month => 31,
                    Self::Quarter => 92,
                    _ => 366,
                };
                self.floor_us(start + days * DAY_US)
            }
        }
    }

    /// Whether every bucket of `coarser` is a union of whole buckets of `self`.
    pub fn divides(self, coarser: Self) -> bool {
        self == coarser
            || match coarser {
                Self::Month | Self::Week => self <= Self::Day,
                Self::Quarter => self <= Self::Day || self == Self::Month,
                Self::Year => self <= Self::Day || matches!(self, Self::Month | Self::Quarter),
                _ => self < coarser,
            }
    }

    fn floor_calendar(self, ts_us: i64) -> i64 {
        let Some(date) = DateTime::from_timestamp_micros(ts_us).map(|t| t.date_naive()) else {
            return ts_us;
        };
        let month = match self {
            Self::Year => 1,
            Self::Quarter => (date.month0() / 3) * 3 + 1,
            _ => date.month(),
        };
        NaiveDate::from_ymd_opt(date.year(), month, 1)
            .and_then(|d| d.and_hms_opt(0, 0, 0))
            .map_or(ts_us, |t| t.and_utc().timestamp_micros())
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Granularity {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let normal = s.replace('-', "_");
        Self::ALL.into_iter().find(|g| g.name() == normal).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("unknown granularity {s:?}"))
                .with_hint(format!("one of {names}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> i64 {
        DateTime::parse_from_rfc3339(s).unwrap().timestamp_micros()
    }

    #[test]
    fn buckets_start_where_calendars_say() {
        let t = at("2015-09-12T13:47:58.771Z");
        for (g, start, next) in [
            (Granularity::Second, "2015-09-12T13:47:58Z", "2015-09-12T13:47:59Z"),
            (Granularity::FifteenMinute, "2015-09-12T13:45:00Z", "2015-09-12T14:00:00Z"),
            (Granularity::Day, "2015-09-12T00:00:00Z", "2015-09-13T00:00:00Z"),
            (Granularity::Week, "2015-09-07T00:00:00Z", "2015-09-14T00:00:00Z"),
            (Granularity::Month, "2015-09-01T00:00:00Z", "2015-10-01T00:00:00Z"),
            (Granularity::Quarter, "2015-07-01T00:00:00Z", "2015-10-01T00:00:00Z"),
            (Granularity::Year, "2015-01-01T00:00:00Z", "2016-01-01T00:00:00Z"),
        ] {
            assert_eq!((g.floor_us(t), g.next_us(t)), (at(start), at(next)), "{g}");
        }
    }

    #[test]
    fn weeks_do_not_divide_months() {
        assert!(!Granularity::Week.divides(Granularity::Month));
        assert!(Granularity::Day.divides(Granularity::Week));
        assert!(Granularity::Minute.divides(Granularity::FiveMinute));
    }
}
