//! The client at work: a thread with a runtime of its own, for the pods and for the node.

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    runtime,
    sync::{
        mpsc::{self, Receiver},
        watch,
    },
};

use super::{keeper::Keeper, settings::Settings, status::Status, watch::Watch};

/// Records that may wait for the flow. The watch waits beyond.
const MAX_WAITING: usize = 256;
/// How long the end may take: the last words, and what they are said with.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Who it is for.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's name in the API.
    pub name: String,
    /// This boot.
    pub boot_id: String,
}

/// The thread.
pub struct Service {
    records: Receiver<Vec<u8>>,
    why_not: watch::Sender<Option<String>>,
    end: watch::Sender<Option<End>>,
    ended: std::sync::mpsc::Receiver<()>,
    status: Arc<Status>,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Failed,
}

impl Service {
    /// Starts it. Nothing is asked before, so it fails only where no thread can be had.
    pub fn start(settings: &Settings, node: &Node) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, records) = mpsc::channel(MAX_WAITING);
        let (why_not, _) = watch::channel(Some("the agent is starting".to_owned()));
        let (end, ending) = watch::channel(None);
        let (finished, ended) = std::sync::mpsc::channel();
        let status = Arc::new(Status::default());
        if settings.watches_pods {
            status.ask_for_pods();
        }
        let watch = settings.watches_pods.then(|| Watch {
            access: settings.access.clone(),
            node_name: node.name.clone(),
            records: sender,
            status: Arc::clone(&status),
        });
        let keeper = |node_settings| Keeper {
            access: settings.access.clone(),
            node_name: node.name.clone(),
            settings: node_settings,
            boot_id: node.boot_id.clone(),
            why_not: why_not.subscribe(),
            status: Arc::clone(&status),
        };
        let keepers = settings.node.clone().map(|own| (keeper(own.clone()), keeper(own)));
        thread::Builder::new().name("kubernetes".into()).spawn(move || {
            runtime.block_on(work(watch, keepers, ending));
            runtime.shutdown_background();
            // Nobody may wait any more.
            let _ = finished.send(());
        })?;
        Ok(Self { records, why_not, end, ended, status })
    }

    /// What was learned since the last call, record by record.
    pub fn record(&mut self) -> Option<Vec<u8>> {
        self.records.try_recv().ok()
    }

    /// What the agent waits for, or nothing.
    pub fn set_why_not(&self, why_not: Option<String>) {
        self.why_not.send_if_modified(|before| {
            let is_news = *before != why_not;
            *before = why_not;
            is_news
        });
    }

    /// Counters and health.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// The agent stops: the node's condition says so.
    pub fn stop(self) {
        self.finish(End::Stopped, END_WITHIN);
    }

    /// The agent cannot go on: the condition says why, and a node that has waited long enough is opened.
    pub fn give_up(self, why: String) {
        self.set_why_not(Some(why));
        self.finish(End::Failed, Duration::from_secs(12));
    }

    fn finish(self, end: End, within: Duration) {
        let Self { records, end: ending, ended, .. } = self;
        drop(records);
        ending.send_replace(Some(end));
        let _ = ended.recv_timeout(within);
    }
}

/// Watches and keeps until the end, and does what is due then.
async fn work(watch: Option<Watch>, keepers: Option<(Keeper, Keeper)>, mut ending: watch::Receiver<Option<End>>) {
    let (keeper, last) = keepers.unzip();
    let watching = async {
        if let Some(watch) = watch {
            watch.run().await;
        }
        std::future::pending::<()>().await;
    };
    let keeping = async {
        if let Some(keeper) = keeper {
            keeper.run().await;
        }
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        () = watching => None,
        () = keeping => None,
        end = ending.wait_for(Option::is_some) => end.ok().and_then(|end| *end),
    };
    if let Some(last) = last {
        match end {
            Some(End::Failed) => last.give_up().await,
            _ => last.stop().await,
        }
    }
}

/// One line on standard error.
pub(super) fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(anstream::stderr(), "monitor: kubernetes: {text}");
}
