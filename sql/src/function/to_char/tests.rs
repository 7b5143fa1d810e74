//! Patterns against what Postgres 15 answers.

use chrono::NaiveDateTime;

use super::{number, time};

fn micros(text: &str) -> i64 {
    let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
    at.and_utc().timestamp_micros()
}

#[test]
fn times_read_as_in_postgres() {
    for (at, pattern, wanted) in [
        ("2026-03-01 00:00:00", "YYYY-MM-DD HH24:MI:SS", "2026-03-01 00:00:00"),
        ("2024-02-29 12:05:09.120034", "HH12:MI:SS.MS US AM p.m.", "12:05:09.120 120034 PM p.m."),
        ("2024-02-29 12:05:09.120034", "FMHH12:FMMI:FMSS", "12:5:9"),
        ("1999-01-03 11:00:00", r#"IYYY-"W"IW-ID IDDD"#, "1998-W53-7 371"),
        ("2005-01-01 12:30:00", "Q WW W J CC DDD D", "1 01 1 2453372 21 001 7"),
        (
            "2026-12-31 23:59:59.999999",
            "Day, DD Month YYYY|Dy DD Mon YY",
            "Thursday , 31 December  2026|Thu 31 Dec 26",
        ),
        (
            "2026-12-31 23:59:59.999999",
            "FMDay, FMDDth FMMonth Y,YYY",
            "Thursday, 31st December 2,026",
        ),
        ("2026-05-01 00:00:00", "TMMonth RM rm MONTH month", "May V    v    MAY       may      "),
        ("0044-03-15 06:07:08", "YYYY YYY YY Y AD b.c.", "0044 044 44 4 AD a.d."),
        ("2026-03-01 01:02:03", "SSSS SSSSS FF1 FF3 FF6", "3723 3723 0 000 000000"),
        ("2026-03-02 00:00:00", r#"on "the" FMDDTH \"of\" mon"#, r#"on the 2ND "+00" mar"#),
        ("2026-03-01 00:00:00", "TZ|OF|TZH:TZM", "|+00|+00:00"),
        ("2026-03-01 00:00:00", "no fiel", "no f6el"),
    ] {
        let found = time::Format::new(pattern).unwrap().text(micros(at), None).unwrap();
        assert_eq!(found, wanted, "{pattern} of {at}");
    }
}

#[test]
fn instants_are_told_in_their_zone() {
    for (zone, at, wanted) in [
        ("UTC", "2026-01-31 23:30:00", "2026-01-31 23:30 UTC utc +00 +00 00"),
        ("UTC", "2026-07-01 12:00:00", "2026-07-01 12:00 UTC utc +00 +00 00"),
        ("Europe/Berlin", "2026-01-31 23:30:00", "2026-02-01 00:30 CET cet +01 +01 00"),
        ("Europe/Berlin", "2026-07-01 12:00:00", "2026-07-01 14:00 CEST cest +02 +02 00"),
        ("America/New_York", "2026-01-31 23:30:00", "2026-01-31 18:30 EST est -05 -05 00"),
        ("America/New_York", "2026-07-01 12:00:00", "2026-07-01 08:00 EDT edt -04 -04 00"),
        ("Asia/Kolkata", "2026-01-31 23:30:00", "2026-02-01 05:00 IST ist +05:30 +05 30"),
        ("Asia/Kolkata", "2026-07-01 12:00:00", "2026-07-01 17:30 IST ist +05:30 +05 30"),
    ] {
        let format = time::Format::new("YYYY-MM-DD HH24:MI TZ tz OF TZH TZM").unwrap();
        let zone = time::Zone::new(zone).unwrap();
        assert_eq!(format.text(micros(at), Some(&zone)).unwrap(), wanted);
    }
    assert!(time::Zone::new("Mars").is_err());
}

/// A decimal's text as its unscaled value and scale.
fn decimal(text: &str) -> (i128, i8) {
    let decimals = text.split_once('.').map_or(0, |(_, rest)| rest.len());
    (text.replace('.', "").parse().unwrap(), i8::try_from(decimals).unwrap())
}

#[test]
fn numbers_read_as_in_postgres() {
    for (number, pattern, wanted) in [
        ("485", "999", " 485"),
        ("-485", "999", "-485"),
        ("485", "9999", "  485"),
        ("485", "FM999", "485"),
        ("485", "000000", " 000485"),
        ("1485", "9,999", " 1,485"),
        ("148.5", "999.99", " 148.50"),
        ("148.5", "FM999.99", "148.5"),
        ("148.5", "FM999.990", "148.500"),
        ("3148.5", "9G999D999", " 3,148.500"),
        ("-485", "999S", "485-"),
        ("-485", "999MI", "485-"),
        ("485", "999MI", "485 "),
        ("485", "FM999MI", "485"),
        ("485", "PL999", "+ 485"),
        ("485", "SG999", "+485"),
        ("-485", "9SG99", "4-85"),
        ("-485", "999PR", "<485>"),
        ("482", "999th", " 482nd"),
        ("485", r#""Good number:"999"#, "Good number: 485"),
        ("0.1", "0.9", " 0.1"),
        ("0.1", "9.9", "  .1"),
        ("-0.1", "99.99", "  -.10"),
        ("-0.1", "FM9.99", "-.1"),
        ("12345", "999", " ###"),
        ("0", "FM9.99", "0."),
        ("1234567.891", "FM9,999,999.00", "1,234,567.89"),
        ("99.995", "999.99", " 100.00"),
        ("0.5", "9", " 1"),
        ("1.5", "9", " 2"),
        ("-0.004", "0.00", " 0.00"),
        ("12", "99.9S", "12.0+"),
        ("-12", "S9,999.00", "   -12.00"),
        ("100", "FM999.9", "100."),
    ] {
        let format = number::Format::new(pattern).unwrap();
        let (unscaled, scale) = decimal(number);
        assert_eq!(format.decimal(unscaled, scale), wanted, "{pattern} of {number}");
    }
    for (number, pattern, wanted) in [
        (12.345, "99.99", " 12.35"),
        (-0.5, "9", "-0"),
        (1.5, "9", " 2"),
        (1e20, "999", " ###"),
        (123456789.123456, "999999999.999999999", " 123456789.123456"),
    ] {
        let format = number::Format::new(pattern).unwrap();
        assert_eq!(format.float(number), wanted, "{pattern} of {number}");
    }
}

#[test]
fn patterns_that_would_mislead_are_refused() {
    for pattern in ["9.9.9", "S9S", "S9MI", "S9EEEE", "9.9V9", "9PR9", "B9"] {
        let e = number::Format::new(pattern).unwrap_err();
        assert!(e.message.contains(pattern), "{e:?}");
    }
    assert!(number::Format::new(&"9".repeat(2_000)).is_err());
}
