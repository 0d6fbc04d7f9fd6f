//! Metrics and health over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet.
//!
//! Nothing is kept for it: a page is made when it is asked for, from counters that are there anyway. It is small on purpose:
//! HTTP/1.1, few connections, and no request that says nothing is waited for.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, sync::atomic::AtomicU64, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

use super::service::{Part, Status};

/// Connections at a time.
const CONNECTIONS: usize = 32;
/// How long a request's head may take, and a connection may live.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_WITHIN: Duration = Duration::from_mins(5);

/// What is to be shown, by name.
#[derive(Debug, Default)]
pub struct Page(Registry);

type Labels = Vec<(&'static str, String)>;

impl Page {
    /// Values that only grow. The name comes without `_total`.
    pub fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value.max(0.0));
        }
        self.0.register(name, help, family);
    }

    /// Values that go up and down.
    pub fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }
}

/// A number as metrics have it. Above 2^53 the last digits are lost, which no rate shows.
#[expect(clippy::cast_precision_loss, reason = "said above")]
pub fn number(value: u64) -> f64 {
    value as f64
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, status: Arc<dyn Status>, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Who finds no place is let go at once: a scrape that fails is tried again.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let status = Arc::clone(&status);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = answer(&request, &*status);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .max_buf_size(16 << 10)
                    .serve_connection(TokioIo::new(stream), service);
                // How a scraper ends its connection is its own affair.
                let _ = timeout(CONNECTION_WITHIN, connection).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
}

fn answer(request: &Request<Incoming>, status: &dyn Status) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            let accepts =
                request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let (content_type, body) = metrics(status, accepts.contains("application/openmetrics-text"));
            response(StatusCode::OK, content_type, body)
        }
        "/healthz" => health(status, |part| part.vital),
        "/readyz" => health(status, |_| true),
        "/" => response(StatusCode::OK, PLAIN, "/metrics /healthz /readyz\n".to_owned()),
        _ => response(StatusCode::NOT_FOUND, PLAIN, "not found: try /metrics, /healthz or /readyz\n".to_owned()),
    }
}

/// The page of metrics, and what it is.
fn metrics(status: &dyn Status, open_metrics: bool) -> (&'static str, String) {
    let mut page = Page(Registry::with_prefix("monitor"));
    status.metrics(&mut page);
    let health =
        status.parts().into_iter().map(|part| (vec![("part", part.name)], f64::from(u8::from(part.why.is_none()))));
    page.gauge("healthy", "1 where a part is well, see /readyz", health);
    let mut body = String::new();
    // Writing to a string does not fail.
    if open_metrics {
        let _ = text::encode(&mut body, &page.0);
        return ("application/openmetrics-text; version=1.0.0; charset=utf-8", body);
    }
    let _ = prometheus_text::encode(&mut body, &page.0);
    ("text/plain; version=0.0.4; charset=utf-8", body)
}

/// Every part that counts on a line of its own; not OK where one of those that must be well is not.
fn health(status: &dyn Status, counts: impl Fn(&Part) -> bool) -> Response<Full<Bytes>> {
    let (mut body, mut good) = (String::new(), true);
    for part in status.parts().into_iter().filter(|part| counts(part)) {
        let _ = match &part.why {
            None => writeln!(body, "ok        {}", part.name),
            Some(why) if part.needed => writeln!(body, "NOT WELL  {}: {why}", part.name),
            Some(why) => writeln!(body, "degraded  {}: {why}", part.name),
        };
        good &= part.why.is_none() || !part.needed;
    }
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response(code, "text/plain; charset=utf-8", body)
}

fn response(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
