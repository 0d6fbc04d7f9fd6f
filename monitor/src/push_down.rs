//! Finds out which opens rules have no use for, and tells whoever can leave them out.
//!
//! To find it out and to tell it takes longer than to look at an event, and most files of a node are either opened often or
//! once. So the first open of something is only noted, and looked into when there is a second.

use monitor_ebpf::{
    record::header_flag,
    subject::{By, Subject},
};

use crate::{
    context::{Context, Evidence},
    event::{Event, syscall::Syscall},
    rules::{Bored, RuleSet},
    state::{State, descriptor::Kind},
};

/// Opens that are remembered. One that is forgotten is noted again.
const NOTED: usize = 1 << 14;

/// Takes what no rule wants to hear of, whoever opens it, or only if it is opened by them.
type Tell = dyn FnMut(Subject, Option<By<'_>>);

/// What has been found out, and who is told.
pub(crate) struct PushDown {
    tell: Box<Tell>,
    /// What was opened, each in its place.
    noted: Vec<Subject>,
}

impl PushDown {
    pub(crate) fn new(tell: impl FnMut(Subject, Option<By<'_>>) + 'static) -> Self {
        Self { tell: Box::new(tell), noted: vec![Subject::NONE; NOTED] }
    }

    /// Looks at a call that was told as this event; if no rule can match an open like it, says so.
    pub(crate) fn learn(
        &mut self,
        syscall: &Syscall<'_>,
        event: &Event<'_>,
        number: u64,
        state: &State,
        rules: &mut RuleSet,
    ) {
        let subject = Subject::from_words(syscall.record.subject);
        if !self.is_due(subject) || event.header.flags & header_flag::TRUNCATED != 0 {
            return;
        }
        let Some(context) = Context::new(state, event, number, Evidence::Event) else { return };
        // What rules see must be what the subject stands for: the file, or the name where there is none.
        let failed = syscall.record.ret < 0;
        let is_meant = match context.descriptor {
            Some(descriptor) => !failed && (descriptor.kind.is_file() || descriptor.kind == Kind::DIRECTORY),
            None => failed && (syscall.is_absolute() || syscall.directories[0].is_some()),
        };
        if context.thread.is_none() || !is_meant {
            return;
        }
        match rules.bored(context.event_type, &context, failed) {
            Some(Bored::Always) => (self.tell)(subject, None),
            Some(Bored::By) => {
                let name = (!failed).then_some(syscall.texts[0]);
                (self.tell)(subject, Some(By { cgroup_id: event.header.cgroup_id, name }));
            }
            None => {}
        }
    }

    /// Whether it has been opened before.
    fn is_due(&mut self, subject: Subject) -> bool {
        let noted = usize::try_from(subject.0).ok().and_then(|at| self.noted.get_mut(at % NOTED));
        let before = noted.map(|noted| std::mem::replace(noted, subject));
        subject != Subject::NONE && before == Some(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_once_is_not_looked_into() {
        let mut push_down = PushDown::new(|_, _| {});
        let collides = 7 + NOTED as u64;
        let asked = [7, 9, 7, 7, collides, 7, 7, 0, 0].map(|subject| push_down.is_due(Subject(subject)));
        assert_eq!(asked, [false, false, true, true, false, false, true, false, false]);
    }
}
