//! Points in time as text, in UTC.
//!
//! Must not: know time zones or leap seconds; logs are in UTC and Unix time has none.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, split into what text shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
    weekday: u64,
    pub(super) millis: u32,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_unix(since.as_secs(), since.subsec_millis())
    }

    /// From seconds since 1970, by the calendar's 400-year cycle that begins in March.
    pub(super) fn from_unix(seconds: u64, millis: u32) -> Self {
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
            millis,
        }
    }

    /// `2026-11-23T09:05:00.123Z`.
    pub(super) fn write_rfc3339(&self, out: &mut Vec<u8>) {
        digits(out, self.year, 4);
        out.push(b'-');
        digits(out, self.month, 2);
        out.push(b'-');
        digits(out, self.day, 2);
        out.push(b'T');
        self.write_clock(out);
        out.push(b'.');
        digits(out, u64::from(self.millis), 3);
        out.push(b'Z');
    }

    /// `23/Nov/2026:09:05:00 +0000`.
    pub(super) fn write_common(&self, out: &mut Vec<u8>) {
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
    Moment::now().write_http(&mut out);
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
            let moment = Moment::from_unix(seconds, 7);
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
                "1970-01-01T00:00:00.007Z",
                "01/Jan/1970:00:00:00 +0000",
                "Thu, 01 Jan 1970 00:00:00 GMT",
            ],
        );
        check(
            951_782_400,
            [
                "2000-02-29T00:00:00.007Z",
                "29/Feb/2000:00:00:00 +0000",
                "Tue, 29 Feb 2000 00:00:00 GMT",
            ],
        );
        check(
            1_795_424_700,
            [
                "2026-11-23T09:05:00.007Z",
                "23/Nov/2026:09:05:00 +0000",
                "Mon, 23 Nov 2026 09:05:00 GMT",
            ],
        );
        check(
            4_107_542_399,
            [
                "2100-02-28T23:59:59.007Z",
                "28/Feb/2100:23:59:59 +0000",
                "Sun, 28 Feb 2100 23:59:59 GMT",
            ],
        );
    }
}
