//! Upgrades events of old captures to the events of today, so that nobody below knows how old a capture is.
//!
//! Recorders used to write two events for a call, one when it was entered and one when it was left, and new fields came as
//! further parameters or as further versions of an event. Falco since 0.42 writes the leaving event alone, which has all of it.
//! A rule says, for each event and number of parameters, what becomes of it; rules are applied until the event is one of
//! today's. The rules and their order are those of falcosecurity/libs 0.25.4, `engine/savefile/converter`.

mod table;

use super::{
    Flaw,
    enters::{Enter, Enters},
};
use crate::event::{
    call::Params,
    schema::{Code, EventInfo, Flags, ParamType},
};

/// Longest event that is upgraded, or comes of it, without its header.
const MAX_BYTES: usize = 64 * 1024;
/// More steps than any event needs, all of which lead from a version to a later one.
const MAX_STEPS: usize = 50;

/// What becomes of an event.
#[derive(Debug)]
enum Rule {
    /// It is kept until its call is left, and dropped.
    Keep,
    /// It is kept, and one of today's.
    KeepAndPass,
    /// It is one of today's.
    Pass,
    /// It gets further parameters.
    Add(&'static [Value]),
    /// It becomes another event with these parameters.
    Become(Code, &'static [Value]),
}

/// Where the value of a parameter comes from.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// A parameter of the event itself.
    Old(usize),
    /// A parameter of the event with which the call was entered, else nothing.
    EnterOrEmpty(usize),
    /// A parameter of the event with which the call was entered, else [`Value::Default`].
    EnterOrDefault(usize),
    /// Zero; all ones for users and groups.
    Default,
    /// Nothing.
    Empty,
    /// The container's JSON text, of the parameters of the event itself.
    ContainerJson,
}

/// What came of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is one of today's.
    AsItIs,
    /// It became this one, whose parameters are [`Upgrade::params`].
    Built(&'static EventInfo),
    /// Today there is none in its place.
    Dropped,
    /// It is kept until its call is left.
    Kept,
}

/// What a look at an event says.
#[derive(Debug, PartialEq)]
enum Look {
    Pass,
    Drop,
    Upgrade,
}

/// What remains of earlier events, and the latest event that was made of others.
#[derive(Default)]
pub(super) struct Upgrade {
    enters: Enters,
    built: Built,
    spare: Built,
    /// Leaving events whose thread had last entered another call.
    unpaired: u64,
}

/// Parameters that were put together.
#[derive(Default)]
struct Built {
    lengths: Vec<u8>,
    values: Vec<u8>,
    wide: bool,
}

/// Whether an event needs no upgrade. True of nearly every event of captures of today.
#[inline]
pub(super) fn is_current(info: &EventInfo, count: usize) -> bool {
    if !info.flags.has(Flags::CONVERTER_MANAGED | Flags::OLD_VERSION) {
        return true;
    }
    !info.flags.has(Flags::OLD_VERSION) && info.code.is_exit() && count == info.params.len()
}

fn look(info: &EventInfo, count: usize) -> Result<Look, Flaw> {
    if is_current(info, count) {
        return Ok(Look::Pass);
    }
    if info.code.is_enter() {
        return Ok(if info.flags.has(Flags::CONVERTER_MANAGED) { Look::Upgrade } else { Look::Drop });
    }
    if count > info.params.len() {
        let (name, most) = (info.name, info.params.len());
        return Err(format!("an event ({name}) has {count} parameters, and there are {most}").into());
    }
    Ok(Look::Upgrade)
}

impl Upgrade {
    /// Upgrades an event.
    pub(super) fn apply(&mut self, info: &'static EventInfo, tid: i64, params: Params<'_>) -> Result<Outcome, Flaw> {
        let mut info = info;
        let mut is_built = false;
        for _ in 0..MAX_STEPS {
            let Self { enters, built, spare, unpaired } = self;
            let current = if is_built { built.params() } else { params };
            let count = current.len();
            let as_it_is = if is_built { Outcome::Built(info) } else { Outcome::AsItIs };
            match look(info, count)? {
                Look::Pass => return Ok(as_it_is),
                Look::Drop => return Ok(Outcome::Dropped),
                Look::Upgrade => {}
            }
            let rule = table::RULES.get(usize::from(info.code.0)).and_then(|rules| rules.get(count)?.as_ref());
            let (to, values, from) = match rule {
                None => return Err(no_rule(info, count)),
                Some(Rule::Pass) => return Ok(as_it_is),
                Some(Rule::Keep | Rule::KeepAndPass)
                    if current.lengths().len() + current.values().len() > MAX_BYTES =>
                {
                    return Err(too_long(info));
                }
                Some(Rule::Keep) => {
                    enters.keep(tid, info.code, current);
                    return Ok(Outcome::Kept);
                }
                Some(Rule::KeepAndPass) => {
                    enters.keep(tid, info.code, current);
                    return Ok(as_it_is);
                }
                Some(Rule::Add(values)) => (info, *values, current),
                Some(Rule::Become(code, values)) => (
                    code.info().ok_or_else(|| no_rule(info, count))?,
                    *values,
                    Params::new(&[], &[], current.is_wide()),
                ),
            };
            spare.begin(to, from);
            let filler = Filler { enters, unpaired, info, tid, old: current };
            filler.fill(spare, to, from.len(), values);
            if spare.lengths.len() + spare.values.len() > MAX_BYTES {
                return Err(too_long(to));
            }
            std::mem::swap(built, spare);
            (info, is_built) = (to, true);
        }
        Err(no_rule(info, params.len()))
    }

    /// Parameters of the event that was built last.
    pub(super) fn params(&self) -> Params<'_> {
        self.built.params()
    }

    /// Forgets what earlier events told.
    pub(super) fn clear(&mut self) {
        self.enters.clear();
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.enters.evicted()
    }

    pub(super) const fn unpaired(&self) -> u64 {
        self.unpaired
    }
}

/// One step: an event, and what fills the parameters that it gets.
struct Filler<'a> {
    enters: &'a mut Enters,
    unpaired: &'a mut u64,
    info: &'static EventInfo,
    tid: i64,
    old: Params<'a>,
}

impl Filler<'_> {
    fn fill(self, into: &mut Built, to: &EventInfo, first: usize, values: &[Value]) {
        let mut used = false;
        let asked = values.iter().any(|value| value.is_of_enter());
        // Falco gives up on a capture where the thread had entered another call. Only an event was lost.
        let entered = if asked { self.enters.get(self.tid) } else { None };
        let is_pair = |enter: &&mut Enter| enter.code().map(|code| code.0) == self.info.code.0.checked_sub(1);
        let unpaired = entered.as_ref().is_some_and(|enter| !is_pair(enter));
        *self.unpaired += u64::from(unpaired);
        let mut entered = entered.filter(is_pair);
        let enter = entered.as_deref().map(Enter::params);
        for (value, param) in values.iter().zip(to.params.get(first..).unwrap_or_default()) {
            let ty = param.ty;
            match *value {
                Value::Empty => into.push(&[]),
                Value::Default => into.push_default(ty),
                Value::Old(index) => into.push_capped(self.old.get(index).unwrap_or_default(), ty),
                Value::EnterOrEmpty(index) | Value::EnterOrDefault(index) => {
                    match (enter.and_then(|enter| enter.get(index)), value) {
                        (Some(bytes), _) => {
                            into.push_capped(bytes, ty);
                            used = true;
                        }
                        (None, Value::EnterOrDefault(_)) => into.push_default(ty),
                        (None, _) => into.push(&[]),
                    }
                }
                Value::ContainerJson => into.push(&container_json(&self.old).unwrap_or_default()),
            }
        }
        if let Some(entered) = entered.as_mut().filter(|_| used) {
            entered.used();
        }
    }
}

impl Value {
    const fn is_of_enter(self) -> bool {
        matches!(self, Self::EnterOrEmpty(_) | Self::EnterOrDefault(_))
    }
}

impl Built {
    fn params(&self) -> Params<'_> {
        Params::new(&self.lengths, &self.values, self.wide)
    }

    /// Begins an event with these parameters.
    fn begin(&mut self, info: &EventInfo, params: Params<'_>) {
        self.wide = info.flags.has(Flags::LARGE_PAYLOAD);
        self.lengths.clear();
        self.values.clear();
        if params.is_wide() == self.wide {
            self.lengths.extend_from_slice(params.lengths());
            self.values.extend_from_slice(params.values());
        } else {
            params.iter().for_each(|value| self.push(value));
        }
    }

    fn push(&mut self, value: &[u8]) {
        if self.wide {
            let len = u32::try_from(value.len()).unwrap_or_default();
            self.lengths.extend_from_slice(&len.to_le_bytes());
            self.values.extend_from_slice(value);
        } else {
            let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
            self.lengths.extend_from_slice(&len.to_le_bytes());
            self.values.extend_from_slice(value.get(..len.into()).unwrap_or(value));
        }
    }

    /// A value that may come from a parameter of another type: no longer than its own type is.
    fn push_capped(&mut self, value: &[u8], ty: ParamType) {
        let cap = ty.fixed_len().unwrap_or(usize::MAX);
        self.push(value.get(..cap).unwrap_or(value));
    }

    fn push_default(&mut self, ty: ParamType) {
        let value = if matches!(ty, ParamType::Uid | ParamType::Gid) { [0xff; 16] } else { [0; 16] };
        self.push(value.get(..ty.fixed_len().unwrap_or_default()).unwrap_or_default());
    }
}

/// The text of today's event about a container, of the four parameters that it had in the beginning.
fn container_json(params: &Params<'_>) -> Option<Vec<u8>> {
    let text = |index| {
        let text = params.bytes(index)?.split_last()?.1;
        serde_json::to_string(&String::from_utf8_lossy(text)).ok()
    };
    let (id, ty, name, image) = (text(0)?, params.u32(1)?, text(2)?, text(3)?);
    Some(format!("{{\"id\":{id},\"type\":{ty},\"name\":{name},\"image\":{image}}}\0").into_bytes())
}

#[cold]
fn no_rule(info: &EventInfo, count: usize) -> Flaw {
    format!("an event ({}, code {}) has {count} parameters, which no recorder ever wrote", info.name, info.code.0)
        .into()
}

#[cold]
fn too_long(info: &EventInfo) -> Flaw {
    format!("an old event ({}) is longer than {MAX_BYTES} bytes", info.name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event that rules are there for, with the number of parameters that they are for.
    fn ruled() -> impl Iterator<Item = (&'static EventInfo, usize, &'static Rule)> {
        (0..Code::COUNT).zip(table::RULES).flat_map(|(code, rules)| {
            let rules = rules.iter().enumerate().filter_map(|(count, rule)| Some((count, rule.as_ref()?)));
            rules.map(move |(count, rule)| (Code(code).info().expect("a rule for an unused code"), count, rule))
        })
    }

    #[test]
    fn every_rule_leads_to_an_event_of_today() {
        let mut upgrade = Upgrade::default();
        for (info, count, _) in ruled() {
            let lengths = [0; 64];
            let width = if info.flags.has(Flags::LARGE_PAYLOAD) { 4 } else { 2 };
            let params = Params::new(&lengths[..count * width], &[], width == 4);
            match upgrade.apply(info, 1, params).unwrap() {
                Outcome::Built(to) => {
                    assert_eq!(upgrade.params().len(), to.params.len(), "{} with {count}", info.name);
                    assert!(!to.flags.has(Flags::OLD_VERSION) || to.code.is_enter(), "{} is old", to.name);
                }
                Outcome::AsItIs => assert_eq!(count, info.params.len()),
                Outcome::Kept | Outcome::Dropped => assert!(info.code.is_enter()),
            }
        }
        assert_eq!(ruled().count(), 253);
    }

    #[test]
    fn no_event_that_is_kept_has_lengths_of_four_bytes() {
        let mut kept = ruled().filter(|(_, _, rule)| matches!(rule, Rule::Keep | Rule::KeepAndPass));
        assert!(kept.all(|(info, _, _)| info.code.is_enter() && !info.flags.has(Flags::LARGE_PAYLOAD)));
    }
}
