//! A sink of one's own: `cargo run --example findings_sink -- 127.0.0.1:8443`, and agents push findings to it.
//!
//! It keeps what is urgent and refuses nothing. What it has answered the agent forgets; so a sink answers when it has kept.

use std::{collections::HashSet, env, sync::Mutex};

use monitor::proto::v1::{
    DeliverRequest, DeliverResponse, Priority,
    findings_sink_server::{FindingsSink, FindingsSinkServer},
};
use tonic::{Request, Response, Status, transport::Server};

#[derive(Default)]
struct Pager {
    /// What came before: an agent that had no answer sends again.
    seen: Mutex<HashSet<String>>,
}

#[tonic::async_trait]
impl FindingsSink for Pager {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        let request = request.into_inner();
        let node = request.source.map(|source| source.node_name).unwrap_or_default();
        for loss in &request.losses {
            println!("{node}: {} findings are missing ({})", loss.findings, loss.cause);
        }
        let mut seen = self.seen.lock().map_err(|_| Status::internal("the state is broken"))?;
        let mut accepted_through = request.first_sequence.saturating_sub(1);
        for finding in request.findings {
            accepted_through = finding.sequence;
            let is_urgent = finding.priority().at_least(Priority::Warning);
            if seen.insert(finding.uid) && is_urgent {
                println!("{node}: {}", finding.message);
            }
        }
        Ok(Response::new(DeliverResponse { accepted_through, ..DeliverResponse::default() }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8443".to_owned()).parse()?;
    Server::builder().add_service(FindingsSinkServer::new(Pager::default())).serve(address).await?;
    Ok(())
}
