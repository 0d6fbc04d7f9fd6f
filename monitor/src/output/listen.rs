//! Connections that a server takes: bounded in number, and only those that show in time that they mean it.
//!
//! A connection costs a place among the few that are still introducing themselves (TLS, then the first bytes of HTTP/2) until
//! it has done so. When those places are used up the oldest goes: whoever opens thousands of connections and says nothing
//! pushes out himself. What is introduced has one of a fixed number of places until it ends.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{
    dial::Stream,
    push::state::short,
    tls::{Reloading, ServerFiles},
};

/// What every HTTP/2 connection begins with, RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often it is said that connections are refused, while they are.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections that are introducing themselves.
    pub new: usize,
    /// Connections that have.
    pub open: usize,
    /// How long introducing may take.
    pub within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { new: 64, open: 256, within: Duration::from_secs(5) }
    }
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A port, in the clear.
    Tcp(TcpListener),
    /// A port, by TLS.
    Tls(TcpListener, Arc<Reloading<ServerFiles>>),
}

/// A connection that has introduced itself.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// How much of the preface was given back.
    replayed: usize,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Takes connections until the stream is dropped.
pub fn connections(listener: Listener, bounds: Bounds) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(1);
    tokio::spawn(async move {
        let accepting = accept(&listener, bounds, &ready);
        tokio::select! {
            () = accepting => {}
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(connections)
}

async fn accept(listener: &Listener, bounds: Bounds, ready: &mpsc::Sender<io::Result<Connection>>) {
    let places = Arc::new(Semaphore::new(bounds.open));
    let refused = Arc::new(Refused::default());
    let mut introducing = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while introducing.try_join_next().is_some() {}
        order.retain(|handle| !handle.is_finished());
        let (stream, tls) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                refused.tell("accept", &error.to_string());
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if order.len() >= bounds.new
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
            refused.tell("crowd", "more new connections than are waited for; the oldest goes");
        }
        let (ready, places, refused) = (ready.clone(), Arc::clone(&places), Arc::clone(&refused));
        order.push_back(introducing.spawn(async move {
            let introduced = timeout(bounds.within, introduce(stream, tls)).await;
            match introduced.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no introduction in time")))
            {
                Err(error) => refused.tell("introduction", &error.to_string()),
                Ok(stream) => match places.try_acquire_owned() {
                    Err(_) => refused.tell("full", "as many connections as are allowed are open"),
                    Ok(place) => {
                        // A server that is gone needs no connections.
                        let _ = ready.send(Ok(Connection { stream, replayed: 0, _place: place })).await;
                    }
                },
            }
        }));
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<TlsAcceptor>)> {
        Ok(match self {
            Listener::Unix(listener) => (Box::new(listener.accept().await?.0), None),
            Listener::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                (Box::new(stream), None)
            }
            Listener::Tls(listener, files) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                (Box::new(stream), Some(TlsAcceptor::from(files.current())))
            }
        })
    }
}

async fn introduce(stream: Box<dyn Stream>, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Stream>> {
    let mut stream: Box<dyn Stream> = match tls {
        None => stream,
        Some(acceptor) => Box::new(acceptor.accept(stream).await?),
    };
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if &preface != PREFACE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2"));
    }
    Ok(stream)
}

/// Says why connections are refused, but not for each of ten thousand.
#[derive(Debug, Default)]
struct Refused {
    count: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Refused {
    fn tell(&self, kind: &'static str, why: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!(kind = kind, "connection refused: {} ({count} so far)", short(why));
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(rest) = PREFACE.get(self.replayed..).filter(|rest| !rest.is_empty()) {
            let bytes = rest.get(..rest.len().min(buffer.remaining())).unwrap_or_default();
            buffer.put_slice(bytes);
            self.replayed += bytes.len();
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpStream, UnixStream},
    };
    use tokio_stream::StreamExt as _;

    use super::*;

    fn bounds() -> Bounds {
        Bounds { new: 4, open: 2, within: Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn who_says_nothing_is_pushed_out_by_who_comes_and_who_speaks_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = connections(Listener::Tcp(listener), bounds());
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(PREFACE).await.unwrap();
        client.write_all(b"more").await.unwrap();
        let mut connection = connections.next().await.unwrap().unwrap();
        let mut bytes = [0; 28];
        connection.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..24], PREFACE);
        assert_eq!(&bytes[24..], b"more");
        let mut byte = [0];
        assert!(matches!(silent[0].read(&mut byte).await, Ok(0) | Err(_)), "the first was let go");
    }

    #[tokio::test]
    async fn no_more_are_open_than_allowed_and_a_place_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut connections = connections(Listener::Unix(UnixListener::bind(&path).unwrap()), bounds());
        let open = async || {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(PREFACE).await.unwrap();
            client
        };
        let _clients = (open().await, open().await);
        let first = connections.next().await.unwrap().unwrap();
        let _second = connections.next().await.unwrap().unwrap();
        let mut third = open().await;
        assert_eq!(third.read(&mut [0]).await.unwrap(), 0, "refused");
        drop(first);
        let _fourth = open().await;
        connections.next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn another_protocol_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _connections = connections(Listener::Tcp(listener), bounds());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A reset or an end: bytes that were not read may be answered by either.
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    }
}
