//! Accepts connections and serves HTTP on them, within limits.
//!
//! A client has a place among a limited number (`places`), [`HEAD_TIME_MAX`] for the head of each
//! request, [`BUFFER_BYTES_MAX`] of memory for it, and must read what is sent to it (`connection`).
//!
//! Not here: what a request may be (`limits`), and who sends it (`auth`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Extensions;
use axum::http::Request;
use axum::http::request::Parts;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::Connection;
use super::descriptors;
use super::places::{Place, PlaceLimits, Places, RequestInPlace};
use crate::telemetry::throttle::LogThrottle;

/// All connections. Pages, scripts, scrapers and streams of a busy installation are some hundreds.
const CONNECTIONS_MAX: usize = 1024;
/// Connections of one address: a reverse proxy is one address to all of its clients.
const ADDRESS_CONNECTIONS_MAX: usize = 512;
/// Connections that only clients on loopback get.
const LOOPBACK_RESERVED: usize = 32;
/// From the connection, or the answer before, to the end of a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// What a connection buffers of a head.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// The wait after no connection could be accepted, for want of descriptors or memory.
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// The address at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Peer(pub(in crate::api) SocketAddr);

/// The address that a request comes from: the socket's, or what a trusted proxy says of it. What
/// any other client says of itself can be made up.
pub(in crate::api) fn address(head: &Parts) -> IpAddr {
    address_of(&head.extensions)
}

/// The same of a request's extensions.
pub(super) fn address_of(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<Peer>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(Peer(address))| address.ip())
}

/// Serves until `stop`, then lets requests under way end.
///
/// # Errors
///
/// The listener has no local address: it is not a listening socket.
pub(in crate::api) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let places = Places::new(PlaceLimits {
        total: CONNECTIONS_MAX.min(descriptors::raise()),
        per_address: ADDRESS_CONNECTIONS_MAX,
        reserved: LOOPBACK_RESERVED,
    });
    let graceful = GracefulShutdown::new();
    let mut refusals = LogThrottle::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => match places.take(address.ip()) {
                Some(place) => {
                    let watcher = graceful.watcher();
                    tokio::spawn(connection(stream, address, router.clone(), place, watcher));
                }
                None => refused(&mut refusals, address.ip()),
            },
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                debug!(event = "accept_failed", %error, "a connection could not be accepted");
                sleep(ACCEPT_WAIT).await;
            }
        }
    }
    graceful.shutdown().await;
    Ok(())
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn refused(refusals: &mut LogThrottle, address: IpAddr) {
    const REFUSED: &str = "a connection was refused: all places are taken by requests";
    if let Some(held_back) = refusals.admit(Instant::now(), REFUSED) {
        warn!(
            event = "connection_refused",
            %address,
            held_back,
            "a connection was refused: all places are taken by requests"
        );
    }
}

/// Serves one connection to its end, or until a newcomer gets its place.
async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    place: Place,
    watcher: Watcher,
) {
    let given_up = place.given_up();
    let place = Arc::new(place);
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let in_place = place.begin();
        request.extensions_mut().insert(ConnectInfo(Peer(address)));
        let answer = routes.call(request);
        async move {
            Ok::<_, std::convert::Infallible>(
                answer.await?.map(|body| PlacedBody { body, _in_place: in_place }),
            )
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let io = TokioIo::new(Connection::new(stream));
    let served = watcher.watch(http.serve_connection(io, service));
    tokio::select! {
        // A client that goes away, or sends what is no HTTP, is no event.
        _ = served => {}
        () = given_up.cancelled() => {}
    }
}

/// The body of an answer. While it is sent its connection keeps its place.
struct PlacedBody {
    body: Body,
    _in_place: RequestInPlace,
}

impl HttpBody for PlacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
