//! Boundaries of buckets in zones with every kind of clock change.

use super::*;
use crate::pull::text::{instant_text, parse_instant};

#[track_caller]
fn check(period: &str, zone: &str, from: &str, to: &str, expected: &[&str]) {
    let zone: Tz = zone.parse().unwrap();
    let at = |text: &str| parse_instant(text).unwrap().0;
    let step = Step::new(Period::parse_iso(period).unwrap(), zone, None);
    let starts = step.starts(at(from), at(to)).unwrap();
    let shown: Vec<String> =
        starts.iter().map(|s| instant_text(*s, offset_seconds(*s, zone))).collect();
    assert_eq!(shown, expected);
    for pair in starts.windows(2) {
        assert_eq!(step.floor(pair[0]), pair[0]);
        assert_eq!(step.floor(pair[1] - 1), pair[0]);
    }
}

#[test]
fn hours_follow_the_zone() {
    check(
        "PT1H",
        "Asia/Kolkata",
        "2024-08-20T00:00:00Z",
        "2024-08-20T02:00:00Z",
        &["2024-08-20T05:00:00+05:30", "2024-08-20T06:00:00+05:30", "2024-08-20T07:00:00+05:30"],
    );
    check(
        "PT1H",
        "America/New_York",
        "2024-11-03T04:30:00Z",
        "2024-11-03T07:30:00Z",
        &[
            "2024-11-03T00:00:00-04:00",
            "2024-11-03T01:00:00-04:00",
            "2024-11-03T01:00:00-05:00",
            "2024-11-03T02:00:00-05:00",
        ],
    );
    check(
        "PT1H",
        "Australia/Lord_Howe",
        "2024-04-06T13:45:00Z",
        "2024-04-06T16:30:00Z",
        &[
            "2024-04-07T00:00:00+11:00",
            "2024-04-07T01:00:00+11:00",
            "2024-04-07T01:30:00+10:30",
            "2024-04-07T02:00:00+10:30",
        ],
    );
    check(
        "PT6H",
        "America/New_York",
        "2024-11-03T04:00:00Z",
        "2024-11-03T17:00:00Z",
        &["2024-11-03T00:00:00-04:00", "2024-11-03T06:00:00-05:00"],
    );
}

#[test]
fn days_and_longer_follow_the_calendar() {
    check(
        "P1D",
        "Europe/Berlin",
        "2024-03-30T12:00:00Z",
        "2024-04-01T00:00:00Z",
        &["2024-03-30T00:00:00+01:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"],
    );
    check(
        "P1D",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        "2018-11-05T00:00:00Z",
        &["2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"],
    );
    let weeks = ["2024-08-19T00:00:00Z", "2024-08-26T00:00:00Z"];
    check("P1W", "UTC", "2024-08-20T00:00:00Z", "2024-08-27T00:00:00Z", &weeks);
    let quarters = ["2023-10-01T00:00:00Z", "2024-01-01T00:00:00Z", "2024-04-01T00:00:00Z"];
    check("P3M", "UTC", "2023-12-31T23:59:59Z", "2024-04-01T00:00:01Z", &quarters);
    check("P1Y", "UTC", "2024-05-05T00:00:00Z", "2024-06-01T00:00:00Z", &["2024-01-01T00:00:00Z"]);
}

#[test]
fn granularities_agree_with_the_engine_in_utc() {
    let from = parse_instant("2023-12-30T22:47:13.25Z").unwrap().0;
    for granularity in Granularity::ALL {
        let step = Step::new(Period::of(granularity), Tz::UTC, None);
        let mut at = from;
        for _ in 0..500 {
            assert_eq!(step.floor(at), granularity.floor_us(at), "{granularity}");
            assert_eq!(step.next(step.floor(at)), granularity.next_us(at), "{granularity}");
            at += 7_919 * 61 * SECOND_US;
        }
    }
}

#[test]
fn periods_read() {
    for (text, period) in [
        ("PT15M", Some(Period::Time(900 * SECOND_US))),
        ("PT1H30M", Some(Period::Time(5_400 * SECOND_US))),
        ("P7D", Some(Period::Days(7))),
        ("P2W", Some(Period::Days(14))),
        ("P1Y6M", Some(Period::Months(18))),
        ("P1DT1H", None),
        ("P", None),
        ("PT", None),
        ("P0D", None),
        ("P-1D", None),
        ("PT99999999999999999999H", None),
        ("P1M1D", None),
        ("1D", None),
        ("PT1.5H", None),
    ] {
        assert_eq!(Period::parse_iso(text), period, "{text}");
    }
    let step = Step::new(Period::Time(SECOND_US), Tz::UTC, None);
    assert_eq!(step.starts(0, 20_000 * SECOND_US), None);
    let origin = parse_instant("2024-01-31T06:00:00Z").unwrap().0;
    let step = Step::new(Period::Months(1), Tz::UTC, Some(origin));
    let from = parse_instant("2024-02-01T00:00:00Z").unwrap().0;
    let to = parse_instant("2024-04-01T00:00:00Z").unwrap().0;
    let shown: Vec<String> =
        step.starts(from, to).unwrap().iter().map(|s| instant_text(*s, 0)).collect();
    let expected = ["2024-01-31T06:00:00Z", "2024-02-29T06:00:00Z", "2024-03-31T06:00:00Z"];
    assert_eq!(shown, expected);
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn buckets_tile_time() {
    // Zones with offsets of odd seconds, half hours, changes of half an hour, at midnight, of a whole day.
    let zones = [
        "UTC",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Africa/Cairo",
        "Europe/Amsterdam",
        "Pacific/Apia",
        "Pacific/Kwajalein",
        "America/Havana",
        "Africa/Monrovia",
    ];
    let periods =
        ["PT1S", "PT7M", "PT15M", "PT1H", "PT2H30M", "PT7H", "P1D", "P5D", "P1W", "P1M", "P1Y"];
    let mut state = 17;
    for zone in zones {
        let zone: Tz = zone.parse().unwrap();
        for text in periods {
            let period = Period::parse_iso(text).unwrap();
            let origin = i64::try_from(random(&mut state) % 4_000_000_000).unwrap() * SECOND_US;
            for step in [Step::new(period, zone, None), Step::new(period, zone, Some(origin))] {
                for _ in 0..200 {
                    // 1880 to 2100.
                    let seconds = i64::try_from(random(&mut state) % 6_942_000_000).unwrap();
                    let at = (seconds - 2_840_140_800) * SECOND_US + 250_000;
                    let (from, to) = step.bucket(at);
                    let what = || format!("{text} in {zone} at {at}: {from}..{to}");
                    assert!((from..to).contains(&at), "{}", what());
                    assert_eq!(step.bucket(from), (from, to), "{}", what());
                    assert_eq!(step.bucket(to - 1), (from, to), "{}", what());
                    assert_eq!(step.bucket(to).0, to, "{}", what());
                }
            }
        }
    }
}

#[test]
fn times_that_no_calendar_reaches_are_their_own_bucket() {
    for at in [i64::MIN, i64::MAX - 1] {
        for zone in [Tz::UTC, Tz::Europe__Berlin] {
            for granularity in Granularity::ALL {
                assert_eq!(Step::of(granularity, zone).floor(at), at, "{granularity}");
            }
        }
    }
}
