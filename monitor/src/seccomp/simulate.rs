//! What a profile would do to calls that containers made: nothing is enforced, everything is counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;

use super::{
    observe::Observed,
    profile::{Filter, filter::Answer},
};

/// Programs that are listed for a call.
const MAX_LISTED: usize = 5;

/// What a profile would do to the containers of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Simulated {
    /// By container, those with calls.
    pub containers: Vec<Container>,
}

/// What a profile would do to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its id; empty for the host.
    pub id: String,
    /// Its image, where that is known.
    pub image: String,
    /// Calls that it made.
    pub calls: u64,
    /// How many of them would be let pass.
    pub allowed: u64,
    /// Calls that would be denied, or might be.
    pub denied: Vec<Denied>,
}

/// A call that would be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// Its name.
    pub call: String,
    /// Through this architecture.
    pub architecture: &'static str,
    /// What would happen. Several: the profile looks at arguments that the capture does not have.
    pub answers: Vec<String>,
    /// Whether it is certain.
    pub is_certain: bool,
    /// How often it was made.
    pub count: u64,
    /// By these programs, each with its number of calls.
    pub programs: BTreeMap<String, u64>,
    /// First and last time, nanoseconds since 1970.
    pub first_ns: u64,
    /// Last time.
    pub last_ns: u64,
}

/// Asks the filter about every call.
pub fn simulate(observed: &Observed, filter: &Filter) -> Simulated {
    let containers = observed.containers.iter().map(|(id, container)| {
        let mut simulated =
            Container { id: id.clone(), image: container.image.clone(), calls: 0, allowed: 0, denied: Vec::new() };
        let mut denied: BTreeMap<(String, &'static str, Vec<String>), Denied> = BTreeMap::new();
        for (made, seen) in &container.calls {
            simulated.calls += seen.count;
            let actions = match filter.possible(made.abi.arch(), made.nr, &made.arguments) {
                Answer::One(action) => BTreeSet::from([action]),
                Answer::DependsOnArguments(actions) => actions,
            };
            if actions.iter().all(|action| action.lets_pass()) {
                simulated.allowed += seen.count;
                continue;
            }
            let answers: Vec<_> = actions.iter().map(ToString::to_string).collect();
            let call = made.abi.call_name(made.nr).into_owned();
            let told = denied.entry((call.clone(), made.abi.name(), answers.clone())).or_insert_with(|| Denied {
                call,
                architecture: made.abi.name(),
                is_certain: !actions.iter().any(|action| action.lets_pass()),
                answers,
                count: 0,
                programs: BTreeMap::new(),
                first_ns: u64::MAX,
                last_ns: 0,
            });
            told.count += seen.count;
            told.first_ns = told.first_ns.min(seen.times_ns.0);
            told.last_ns = told.last_ns.max(seen.times_ns.1);
            for (program, count) in &seen.programs {
                *told.programs.entry(program.clone()).or_default() += count;
            }
        }
        simulated.denied = denied.into_values().collect();
        simulated
            .denied
            .sort_by(|a, b| b.is_certain.cmp(&a.is_certain).then(b.count.cmp(&a.count)).then(a.call.cmp(&b.call)));
        simulated
    });
    Simulated { containers: containers.collect() }
}

impl Simulated {
    /// Whether a call would certainly be denied.
    pub fn denies(&self) -> bool {
        self.containers.iter().any(|container| container.denied.iter().any(|denied| denied.is_certain))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Container { id, image, calls, allowed, denied } in &self.containers {
            let name = match (id.as_str(), image.as_str()) {
                ("", _) => "the host".to_owned(),
                (id, "") => format!("container {id}"),
                (id, image) => format!("container {id} ({image})"),
            };
            let _ = writeln!(text, "{name}: {calls} calls, {allowed} of them allowed");
            for denied in denied {
                let programs = denied.programs.iter();
                let mut programs: Vec<_> = programs.map(|(program, count)| (*count, program.escape_debug())).collect();
                programs.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
                let shown: Vec<_> =
                    programs.iter().take(MAX_LISTED).map(|(count, program)| format!("{program} ({count})")).collect();
                let more = programs.len().saturating_sub(MAX_LISTED);
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                let answer = denied.answers.join(" or ");
                let answer = if denied.is_certain {
                    answer
                } else {
                    format!("depends on arguments that the capture does not have: {answer}")
                };
                let Denied { call, architecture, count, .. } = denied;
                let _ = writeln!(text, "  {call} ({architecture}) {count} times: {answer}; {}{more}", shown.join(", "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{
        observe::Made,
        profile::{Abi, Target, parse, select::select},
    };

    #[test]
    fn denied_calls_are_told_with_their_programs_and_open_questions_as_such() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 17, "op": "SCMP_CMP_EQ"}]}]}"#;
        let selected = select(&parse("p", text.as_bytes()).profile.unwrap(), &Target::new(Abi::X86_64));
        let filter = Filter::for_runc(&selected).unwrap();
        let mut observed = Observed::default();
        let mut add = |nr, argument| {
            let made = Made { abi: Abi::X86_64, nr, arguments: [argument, None, None, None, None, None] };
            observed.add("c1", "/bin/x", made, 5);
        };
        add(0, None);
        add(1, None);
        add(1, Some(3));
        add(56, Some(17));
        add(56, Some(18));
        add(56, None);
        let simulated = simulate(&observed, &filter);
        let container = &simulated.containers[0];
        assert_eq!((container.calls, container.allowed, container.denied.len()), (6, 2, 3));
        let told: Vec<_> =
            container.denied.iter().map(|denied| (&*denied.call, denied.count, denied.is_certain)).collect();
        assert_eq!(told, [("write", 2, true), ("clone", 1, true), ("clone", 1, false)]);
        assert!(simulated.denies());
        let shown = simulated.text();
        assert!(shown.contains("write (SCMP_ARCH_X86_64) 2 times: fails with EPERM; /bin/x (2)\n"), "{shown}");
        assert!(
            shown.contains("depends on arguments that the capture does not have: fails with EPERM or allowed"),
            "{shown}"
        );
    }
}
