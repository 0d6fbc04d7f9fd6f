//! Trouble with the API, said on standard error in one line when it begins, when it is another, seldom while it lasts, and when it is over.

use std::time::Duration;

/// While trouble changes quickly a line comes at most this often.
const BETWEEN: Duration = Duration::from_secs(30);
/// While it lasts.
const REMINDER: Duration = Duration::from_mins(10);

/// What was said of it. Times are since any fixed moment.
#[derive(Debug, Default)]
pub struct Trouble {
    said: Option<(&'static str, Duration)>,
    failures: u32,
}

impl Trouble {
    /// It has not worked, for a reason of this kind. Whether to say so.
    pub fn failed(&mut self, kind: &'static str, now: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        let is_news = match self.said {
            None => true,
            Some((before, at)) => {
                let since = now.saturating_sub(at);
                since >= REMINDER || before != kind && since >= BETWEEN
            }
        };
        if is_news {
            self.said = Some((kind, now));
        }
        is_news
    }

    /// It works. Whether to say so: there was trouble that was spoken of.
    pub fn is_over(&mut self) -> bool {
        self.failures = 0;
        self.said.take().is_some()
    }

    /// Failures since it worked.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_away_for_an_hour_gives_a_few_lines() {
        let mut trouble = Trouble::default();
        let said = (0..3600).filter(|second| trouble.failed("connect", Duration::from_secs(*second))).count();
        assert_eq!((said, trouble.failures()), (6, 3600));
        assert!(trouble.is_over() && !trouble.is_over() && trouble.failures() == 0);
    }

    #[test]
    fn another_reason_is_news_but_two_that_alternate_are_no_flood() {
        let mut trouble = Trouble::default();
        let at = Duration::from_secs;
        assert!(trouble.failed("connect", at(0)) && !trouble.failed("unauthorized", at(1)));
        assert!(trouble.failed("unauthorized", at(31)));
        let kinds = ["connect", "unauthorized"].into_iter().cycle().zip(100..400);
        let said = kinds.filter(|(kind, second)| trouble.failed(kind, at(*second))).count();
        assert!(said <= 10, "{said}");
    }
}
