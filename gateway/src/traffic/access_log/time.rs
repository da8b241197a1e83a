//! Points in time as text, in UTC.
//!
//! Must not: know time zones or leap seconds; logs are in UTC and Unix time has none.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Turns the monotonic instants that traffic measures with into text. It asks for the time of day
/// only when it is synchronised, and formats a second once.
#[derive(Debug)]
pub(super) struct Clock {
    /// An instant, and the time of day it was.
    synchronised: (Instant, Duration),
    /// The second that `rfc3339` and `common` show.
    second: Option<u64>,
    rfc3339: Vec<u8>,
    common: Vec<u8>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            synchronised: (Instant::now(), since_epoch()),
            second: None,
            rfc3339: Vec::new(),
            common: Vec::new(),
        }
    }
}

impl Clock {
    /// Follows the time of day, which somebody may have set.
    pub(super) fn synchronise(&mut self) {
        self.synchronised = (Instant::now(), since_epoch());
    }

    /// `2026-11-23T09:05:00.123Z`.
    pub(super) fn write_rfc3339(&mut self, at: Instant, out: &mut Vec<u8>) {
        let millis = self.turn_to(at);
        out.extend_from_slice(&self.rfc3339);
        digits(out, u64::from(millis), 3);
        out.push(b'Z');
    }

    /// `23/Nov/2026:09:05:00 +0000`.
    pub(super) fn write_common(&mut self, at: Instant, out: &mut Vec<u8>) {
        self.turn_to(at);
        out.extend_from_slice(&self.common);
    }

    /// Formats the second of an instant, unless it is formatted; returns the milliseconds in it.
    fn turn_to(&mut self, at: Instant) -> u32 {
        let (instant, time) = self.synchronised;
        let time = match at.checked_duration_since(instant) {
            Some(after) => time.saturating_add(after),
            None => time.saturating_sub(instant.duration_since(at)),
        };
        if self.second != Some(time.as_secs()) {
            self.second = Some(time.as_secs());
            let moment = Moment::from_unix(time.as_secs());
            self.rfc3339.clear();
            moment.write_rfc3339(&mut self.rfc3339);
            self.common.clear();
            moment.write_common(&mut self.common);
        }
        time.subsec_millis()
    }
}

fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// A point in time, split into what text shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
    weekday: u64,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Moment {
    /// From seconds since 1970, by the calendar's 400-year cycle that begins in March.
    fn from_unix(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            second: seconds % 86_400,
            weekday: days % 7,
        }
    }

    /// `2026-11-23T09:05:00.`, to which the rest of the second is added.
    fn write_rfc3339(&self, out: &mut Vec<u8>) {
        digits(out, self.year, 4);
        out.push(b'-');
        digits(out, self.month, 2);
        out.push(b'-');
        digits(out, self.day, 2);
        out.push(b'T');
        self.write_clock(out);
        out.push(b'.');
    }

    /// `23/Nov/2026:09:05:00 +0000`.
    fn write_common(&self, out: &mut Vec<u8>) {
        digits(out, self.day, 2);
        out.push(b'/');
        out.extend_from_slice(self.month_name().as_bytes());
        out.push(b'/');
        digits(out, self.year, 4);
        out.push(b':');
        self.write_clock(out);
        out.extend_from_slice(b" +0000");
    }

    /// `Mon, 23 Nov 2026 09:05:00 GMT` (RFC 9110 §5.6.7).
    fn write_http(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(DAYS.get(self.weekday as usize).unwrap_or(&"Thu").as_bytes());
        out.extend_from_slice(b", ");
        digits(out, self.day, 2);
        out.push(b' ');
        out.extend_from_slice(self.month_name().as_bytes());
        out.push(b' ');
        digits(out, self.year, 4);
        out.push(b' ');
        self.write_clock(out);
        out.extend_from_slice(b" GMT");
    }

    fn month_name(&self) -> &'static str {
        MONTHS
            .get(self.month as usize - 1)
            .copied()
            .unwrap_or("Jan")
    }

    fn write_clock(&self, out: &mut Vec<u8>) {
        digits(out, self.second / 3600, 2);
        out.push(b':');
        digits(out, self.second / 60 % 60, 2);
        out.push(b':');
        digits(out, self.second % 60, 2);
    }
}

/// The present as a `Date` field has it.
pub fn http_date() -> Vec<u8> {
    let mut out = Vec::with_capacity(29);
    Moment::from_unix(since_epoch().as_secs()).write_http(&mut out);
    out
}

fn digits(out: &mut Vec<u8>, number: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10_u64.pow(place) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_calendar_has_them() {
        let check = |seconds: u64, expected: [&str; 3]| {
            let moment = Moment::from_unix(seconds);
            let text = |write: fn(&Moment, &mut Vec<u8>)| {
                let mut out = Vec::new();
                write(&moment, &mut out);
                String::from_utf8(out).unwrap()
            };
            let found = [
                text(Moment::write_rfc3339),
                text(Moment::write_common),
                text(Moment::write_http),
            ];
            assert_eq!(found, expected, "{seconds}");
        };
        check(
            0,
            [
                "1970-01-01T00:00:00.",
                "01/Jan/1970:00:00:00 +0000",
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ],
        );
        check(
            951_782_400,
            [
                "2000-02-29T00:00:00.",
                "29/Feb/2000:00:00:00 +0000",
                "Tue, 29 Feb 2000 00:00:00 GMT",
            ],
        );
        check(
            1_795_424_700,
            [
                "2026-11-23T09:05:00.",
                "23/Nov/2026:09:05:00 +0000",
                "Mon, 23 Nov 2026 09:05:00 GMT",
            ],
        );
        check(
            4_107_542_399,
            [
                "2100-02-28T23:59:59.",
                "28/Feb/2100:23:59:59 +0000",
                "Sun, 28 Feb 2100 23:59:59 GMT",
            ],
        );
    }

    #[test]
    fn a_clock_shows_instants_before_and_after_it_was_synchronised() {
        let mut clock = Clock::default();
        let (instant, _) = clock.synchronised;
        clock.synchronised.1 = Duration::from_millis(1_795_424_700_250);
        let mut check = |at: Instant, expected: [&str; 2]| {
            let text = |write: &mut dyn FnMut(&mut Vec<u8>)| {
                let mut out = Vec::new();
                write(&mut out);
                String::from_utf8(out).unwrap()
            };
            let found = [
                text(&mut |out| clock.write_rfc3339(at, out)),
                text(&mut |out| clock.write_common(at, out)),
            ];
            assert_eq!(found, expected);
        };
        check(
            instant,
            ["2026-11-23T09:05:00.250Z", "23/Nov/2026:09:05:00 +0000"],
        );
        check(
            instant + Duration::from_millis(1755),
            ["2026-11-23T09:05:02.005Z", "23/Nov/2026:09:05:02 +0000"],
        );
        check(
            instant - Duration::from_millis(251),
            ["2026-11-23T09:04:59.999Z", "23/Nov/2026:09:04:59 +0000"],
        );
    }

    #[test]
    fn a_date_field_has_its_length() {
        assert_eq!(http_date().len(), 29);
    }
}
