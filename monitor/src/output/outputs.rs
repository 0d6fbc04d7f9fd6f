//! All outputs but stdout, opened as the configuration says, and one place that findings are handed to.

use std::{path::Path, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    cursor::RecordLoss,
    hub::Hub,
    push::{Sender, SinkOptions, SinkState, Sinks},
    spool::{Limits, Recovery, Spool, SpoolError, Threads, files::Disk},
};
use crate::proto::v1::{Finding, LossReport, SinkStatus, SpoolStatus};

/// How long sinks may take for what is left when the agent ends.
const FAREWELL: Duration = Duration::from_millis(800);

/// Why outputs cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The spool cannot.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No thread could be started.
    #[error("cannot start the sinks: {0}")]
    Sinks(#[from] std::io::Error),
}

/// The outputs of a run.
#[derive(Debug)]
pub struct Outputs {
    hub: Arc<Hub>,
    spool: Option<(Spool, Threads)>,
    sinks: Option<Sinks>,
    recovery: Recovery,
}

impl Outputs {
    /// Opens them for a new run.
    pub fn open(
        spool: Option<(&Path, Limits)>,
        sinks: Vec<SinkOptions>,
        sender: &Sender,
    ) -> Result<Outputs, OutputError> {
        let epoch = Uuid::now_v7();
        let Some((directory, limits)) = spool else {
            let hub = Hub::new(epoch.to_string());
            return Ok(Outputs {
                hub,
                spool: None,
                sinks: None,
                recovery: Recovery { clean: true, ..Recovery::default() },
            });
        };
        let (spool, threads, recovery) = Spool::open(Arc::new(Disk), directory, limits, epoch)?;
        let hub = Hub::with_history(spool.clone());
        let sinks = Sinks::start(&spool, sender, sinks)?;
        Ok(Outputs { hub, spool: Some((spool, threads)), sinks: Some(sinks), recovery })
    }

    /// The hub that subscribers read from.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The spool, where there is one.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref().map(|(spool, _)| spool)
    }

    /// What the spool held when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// A finding for every output. Never waits.
    pub fn publish(&self, finding: Arc<Finding>) {
        if let Some((spool, _)) = &self.spool {
            spool.append(&finding);
        }
        self.hub.publish(finding);
    }

    /// Records that did not become events.
    pub fn report_record_loss(&self, cause: RecordLoss, records: u64) {
        self.hub.report_record_loss(cause, records);
        if let Some((spool, _)) = &self.spool {
            let epoch = spool.epoch().to_string();
            spool.report(&LossReport { records, cause: cause.cause().to_owned(), epoch, ..LossReport::default() });
        }
    }

    /// A view of spool and sinks for others.
    pub fn watch(&self) -> OutputStatus {
        OutputStatus {
            hub: Arc::clone(&self.hub),
            spool: self.spool().cloned(),
            sinks: self.sinks.iter().flat_map(Sinks::states).map(Arc::clone).collect(),
        }
    }

    /// Ends them: the spool keeps what sinks do not take now.
    pub fn finish(self) {
        if let Some((_, threads)) = self.spool {
            threads.finish();
        }
        if let Some(sinks) = self.sinks {
            sinks.stop(FAREWELL);
        }
    }
}

/// How outputs are doing, for whoever asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutputStatus {
    /// The hub.
    pub hub: Arc<Hub>,
    /// The spool.
    pub spool: Option<Spool>,
    /// The sinks, in the order of the configuration.
    pub sinks: Vec<Arc<SinkState>>,
}

impl OutputStatus {
    /// The spool, in the contract's words.
    pub fn spool_status(&self) -> Option<SpoolStatus> {
        let status = self.spool.as_ref()?.status();
        Some(SpoolStatus {
            bytes: status.bytes,
            entries: status.next_index - status.first_index,
            unsaved: status.unsaved,
            dropped: status.dropped,
            failing: status.failing.unwrap_or_default(),
        })
    }

    /// The sinks, in the contract's words.
    pub fn sink_statuses(&self) -> Vec<SinkStatus> {
        let newest = self.spool.as_ref().map_or(0, |spool| spool.status().next_index);
        self.sinks.iter().map(|sink| sink.status(newest)).collect()
    }
}
