//! Accepting connections, and what each may cost before a handler has its say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::gate::Place;
use super::peer::Connection;
use super::stats::Samples;
use super::stream::Patient;
use super::{Site, Stage, routes};
use crate::media;

/// Serves until it is told to stop.
pub(super) async fn run(
    listeners: Vec<std::net::TcpListener>,
    site: Arc<Site>,
    mut stage: watch::Receiver<Stage>,
) {
    let app = App(TowerToHyperService::new(routes::router(Arc::clone(&site))));
    tokio::spawn(Samples::run(Arc::clone(&site)));
    tokio::spawn(media::collect(Arc::clone(&site.media)));
    tokio::spawn(Arc::clone(&site.watched).run(site.chat.clone()));
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                tokio::spawn(accept(listener, Arc::clone(&site), app.clone()));
            }
            Err(error) => tracing::error!("cannot serve HTTP: {error}"),
        }
    }
    // Who could tell is gone: so is everything else.
    let _gone = stage.wait_for(|stage| *stage == Stage::Stopped).await;
}

#[derive(Clone)]
struct App(TowerToHyperService<axum::Router>);

async fn accept(listener: TcpListener, site: Arc<Site>, app: App) {
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let is_proxy = site.options.proxies.iter().any(|it| it.contains(address.ip()));
        // Closed without a word: an answer would cost more than what it refuses.
        match site.gate.enter(address.ip(), is_proxy) {
            Ok(place) => {
                tokio::spawn(serve(socket, address, place, site.options.timeout, app.clone()));
            }
            Err(bound) => site.broker.count(bound),
        }
    }
}

async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    place: Place,
    patience: Duration,
    App(app): App,
) {
    let _no_delay_is_only_faster = socket.set_nodelay(true);
    let connection = Connection { address, place: Arc::new(place) };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        app.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(socket, patience)), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(peer = %address, "HTTP: {error}");
    }
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
const HEADERS_MAX: usize = 64;

/// The largest head of a request, and what of a body is in memory unread.
const HEAD_BYTES_MAX: usize = 16 * 1024;
