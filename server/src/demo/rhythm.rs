//! The rhythm of the demo's platform as pure functions of time: how busy a minute is, which release a player
//! runs, when the platform is down, how many players have registered. Nothing here keeps state, so that any
//! minute can be made again at any later start.

/// Milliseconds in a minute.
pub(super) const MINUTE_MS: i64 = 60_000;
const MINUTES_PER_DAY: i64 = 1_440;
const DAY_MS: i64 = MINUTES_PER_DAY * MINUTE_MS;
/// 2024-01-01, the day the platform opened.
const OPENED_MS: i64 = 1_704_067_200_000;
/// Players who register on a day.
const REGISTRATIONS_PER_DAY: f64 = 600.0;
/// Days between two releases of the client.
const RELEASE_DAYS: i64 = 14;
/// Days between two outages, so that any month holds one.
const OUTAGE_CYCLE_DAYS: i64 = 21;
/// Day of the cycle, hour of that day and length of the outage.
const OUTAGE_DAY: i64 = 9;
const OUTAGE_FROM_MS: i64 = 13 * 60 * MINUTE_MS;
const OUTAGE_MS: i64 = 2 * 60 * MINUTE_MS;

/// Weight of each hour of the day; the mean is 1.
const HOURS: [f64; 24] = [
    0.66, 0.52, 0.42, 0.36, 0.34, 0.38, 0.50, 0.66, 0.82, 0.94, 1.02, 1.10, 1.20, 1.20, 1.14, 1.12,
    1.18, 1.30, 1.48, 1.70, 1.80, 1.78, 1.47, 0.91,
];
/// Weight of each day of the week from Monday; the mean is 1.
const WEEKDAYS: [f64; 7] = [0.90, 0.88, 0.90, 0.93, 1.05, 1.21, 1.13];

/// A small deterministic source of chance (splitmix64), the same on every machine and in every version.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    /// The source that belongs to these numbers.
    pub(super) fn of(seed: u64, a: i64, b: u64) -> Self {
        Self(mix(mix(mix(seed) ^ a.cast_unsigned()) ^ b))
    }
    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
    /// A number in `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// A number in `[0, below)`.
    pub(super) fn below(&mut self, below: u32) -> u32 {
        let wide = (self.bits() >> 32) * u64::from(below.max(1));
        u32::try_from(wide >> 32).unwrap_or(0)
    }
    /// True once in `of` times.
    pub(super) fn once_in(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }
    /// An index drawn by weight.
    pub(super) fn weighted<const N: usize>(&mut self, weights: &[u32; N]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut drawn = self.below(total);
        for (n, weight) in weights.iter().enumerate() {
            if drawn < *weight {
                return n;
            }
            drawn -= weight;
        }
        N - 1
    }
}

/// Scrambles 64 bits.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How busy the platform is at a moment, 1 on average; an outage is not counted in.
pub(super) fn traffic(at_ms: i64) -> f64 {
    let minute_of_day = at_ms.rem_euclid(DAY_MS) / MINUTE_MS;
    let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
    let here = HOURS[index(hour)];
    let next = HOURS[index((hour + 1) % 24)];
    let daily = here + (next - here) * small(minute) / 60.0;
    // 1970-01-01 was a Thursday.
    let weekday = (at_ms.div_euclid(DAY_MS) + 3).rem_euclid(7);
    daily * WEEKDAYS[index(weekday)]
}

/// The outage that a moment lies in, as `[from, to)`.
pub(super) fn outage(at_ms: i64) -> Option<(i64, i64)> {
    let day = at_ms.div_euclid(DAY_MS);
    let from = day * DAY_MS + OUTAGE_FROM_MS;
    let is_day = day.rem_euclid(OUTAGE_CYCLE_DAYS) == OUTAGE_DAY;
    (is_day && (from..from + OUTAGE_MS).contains(&at_ms)).then_some((from, from + OUTAGE_MS))
}

/// Number of the newest release at a moment, and its age in milliseconds.
pub(super) fn release(at_ms: i64) -> (u16, i64) {
    let since = at_ms - OPENED_MS - 9 * 60 * MINUTE_MS;
    let number = since.div_euclid(RELEASE_DAYS * DAY_MS);
    (u16::try_from(number).unwrap_or(0), since.rem_euclid(RELEASE_DAYS * DAY_MS))
}

/// The release that a player runs: most update within two days, a few take until the next one.
pub(super) fn release_of(player: u32, at_ms: i64) -> u16 {
    let (newest, age_ms) = release(at_ms);
    let mut chance = Chance::of(u64::from(player), i64::from(newest), 0x5e1ea5e);
    let patience = -(1.0 - chance.unit()).ln() * 0.9 + if chance.once_in(20) { 14.0 } else { 0.0 };
    if small(age_ms / MINUTE_MS) / small(MINUTES_PER_DAY) >= patience {
        newest
    } else {
        newest.saturating_sub(1)
    }
}

/// Players registered before a moment. Players are numbered in this order from 1.
pub(super) fn registered_before(at_ms: i64) -> u32 {
    let day = (at_ms - OPENED_MS).div_euclid(DAY_MS);
    let minute_of_day = at_ms.rem_euclid(DAY_MS) / MINUTE_MS;
    let (hour, minute) = (minute_of_day / 60, minute_of_day % 60);
    let whole: f64 = HOURS.iter().take(index(hour)).sum();
    let part = HOURS[index(hour)] * small(minute) / 60.0;
    let total: f64 = HOURS.iter().sum();
    let days = small(day) + (whole + part) / total;
    rounded(days * REGISTRATIONS_PER_DAY)
}

/// A non-negative whole number, as drawn from a small product.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and negative means none"
)]
pub(super) fn rounded(x: f64) -> u32 {
    x as u32
}

/// A small integer as a double.
#[expect(clippy::cast_precision_loss, reason = "minutes and days are far below 2^53")]
pub(super) fn small(n: i64) -> f64 {
    n as f64
}

fn index(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_average_to_one() {
        let hours: f64 = HOURS.iter().sum::<f64>() / 24.0;
        let days: f64 = WEEKDAYS.iter().sum::<f64>() / 7.0;
        assert!((hours - 1.0).abs() < 0.01, "{hours}");
        assert!((days - 1.0).abs() < 0.01, "{days}");
    }

    #[test]
    fn every_month_has_an_outage_and_a_release() {
        for start_day in 0..40 {
            let from = OPENED_MS + (800 + start_day) * DAY_MS;
            let down = (0..30 * 24).filter(|h| outage(from + h * 60 * MINUTE_MS).is_some()).count();
            assert!((2..=4).contains(&down), "{down} hours down");
            assert!(release(from).0 < release(from + 30 * DAY_MS).0);
        }
    }

    #[test]
    fn registrations_only_grow() {
        let counts: Vec<u32> =
            (0..3_000).map(|m| registered_before(OPENED_MS + m * MINUTE_MS)).collect();
        assert!(counts.is_sorted());
        assert_eq!(counts[1_440], 600);
    }
}
