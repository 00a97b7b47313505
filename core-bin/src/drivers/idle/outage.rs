//! Where sessions outlive an outage, silence of gateways is no silence of peers.
//!
//! In a location with a hold nobody is ended as quiet while a gateway of it is out of touch, for as long
//! as the hold, nor before the gateways have had the time to say what they saw meanwhile. Sans-IO.

use core::time::Duration;
use std::collections::BTreeMap;

use mfa_core::id::LocationId;
use mfa_core::policy::OutageHold;
use mfa_core::time::Timestamp;

/// A gateway that was not heard for so long is out of touch: several heartbeats, and what several cores'
/// clocks may differ.
const OUT_OF_TOUCH: Duration = Duration::from_secs(60);

/// Within this a gateway that is back has reported: it dials at least each 30 s, and two periods fit.
pub const REPORTS_WITHIN: Duration = Duration::from_secs(120);

/// The locations that come out of an outage.
#[derive(Debug, Default)]
pub struct Outages {
    settles: BTreeMap<LocationId, Timestamp>,
    holds: BTreeMap<LocationId, OutageHold>,
}

impl Outages {
    /// Takes over which locations have a hold, and when each of their gateways was last heard. A location
    /// that was not known before, as all are when core starts, may come out of an outage.
    pub fn learn(
        &mut self,
        holds: BTreeMap<LocationId, OutageHold>,
        heard: &[(LocationId, Timestamp)],
        now: Timestamp,
    ) {
        let settled = now.saturating_add(REPORTS_WITHIN);
        for (location, hold) in &holds {
            let new = !self.holds.contains_key(location);
            let away = heard.iter().filter(|(place, _)| place == location).any(|(_, at)| {
                let silence = now.since(*at);
                silence > OUT_OF_TOUCH && silence < hold.get()
            });
            if new || away {
                self.settles.insert(*location, settled);
            }
        }
        self.settles.retain(|location, until| holds.contains_key(location) && now < *until);
        self.holds = holds;
    }

    /// Tells whether a location is in an outage, or comes out of one.
    #[must_use]
    pub fn concerns(&self, location: LocationId) -> bool {
        self.settles.contains_key(&location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: LocationId = LocationId::new(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).saturating_add(Duration::from_secs(seconds))
    }

    fn holds(seconds: u64) -> BTreeMap<LocationId, OutageHold> {
        [(PARIS, OutageHold::new(Duration::from_secs(seconds)).unwrap())].into()
    }

    #[test]
    fn after_a_start_gateways_have_the_time_to_report() {
        let mut outages = Outages::default();
        outages.learn(holds(3600), &[(PARIS, at(0))], at(0));
        outages.learn(holds(3600), &[(PARIS, at(119))], at(119));
        assert!(outages.concerns(PARIS));
        outages.learn(holds(3600), &[(PARIS, at(120))], at(120));
        assert!(!outages.concerns(PARIS));
    }

    #[test]
    fn a_gateway_out_of_touch_is_waited_for_as_long_as_the_hold() {
        let mut outages = Outages::default();
        outages.learn(holds(3600), &[(PARIS, at(0))], at(0));
        let mut last = 0;
        for now in (60..=8000).step_by(60) {
            outages.learn(holds(3600), &[(PARIS, at(0)), (PARIS, at(now))], at(now));
            if outages.concerns(PARIS) {
                last = now;
            }
        }
        assert_eq!(last, 3540 + 60);
    }

    #[test]
    fn without_a_hold_nothing_is_waited_for() {
        let mut outages = Outages::default();
        outages.learn(BTreeMap::new(), &[(PARIS, at(0))], at(300));
        assert!(!outages.concerns(PARIS));
        outages.learn(holds(3600), &[(PARIS, at(0))], at(301));
        assert!(outages.concerns(PARIS));
        outages.learn(BTreeMap::new(), &[(PARIS, at(0))], at(302));
        assert!(!outages.concerns(PARIS));
    }
}
