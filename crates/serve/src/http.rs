//! Connections and requests: who is let in, which path leads where, with what headers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State, WebSocketUpgrade};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Router, serve::Listener};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{Shared, assets, session};

/// Connections that are open at the same time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// Pages that are connected at the same time.
const SESSIONS_MAX: usize = 64;
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes of one message from a page.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Accepts connections for ever.
pub async fn accept(mut listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = router(shared);
    loop {
        let (stream, from) = Listener::accept(&mut listener).await;
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::warn!(%from, "closed a connection: there are {CONNECTIONS_MAX} already");
            continue;
        };
        // Answers are small and awaited.
        _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%from, %error, "a connection ended");
            }
        });
    }
}

#[derive(Clone)]
struct Site {
    shared: Arc<Shared>,
    sessions: Arc<Semaphore>,
}

fn router(shared: Arc<Shared>) -> Router {
    let site = Site { shared, sessions: Arc::new(Semaphore::new(SESSIONS_MAX)) };
    Router::new()
        .route("/ask", any(ask))
        .route("/sources/{*path}", get(source))
        .fallback(asset)
        .layer(from_fn_with_state(site.clone(), checked))
        .with_state(site)
}

/// Refuses who may not ask, and adds to every answer what the browser must keep to.
async fn checked(State(site): State<Site>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).cloned();
    let mut response = match site.shared.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => {
            tracing::warn!(why, path = request.uri().path(), "refused a request");
            (StatusCode::FORBIDDEN, why).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy(host.as_ref()));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Nothing from elsewhere, nothing inline. Not all browsers count WebSockets of the same host as
/// `'self'`, so that is named as well; it has passed the guard, or the answer is a refusal.
fn policy(host: Option<&HeaderValue>) -> HeaderValue {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
        img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
        connect-src 'self'";
    let plain = |c: char| c.is_ascii_alphanumeric() || ".:-[]".contains(c);
    let host = host.and_then(|host| host.to_str().ok());
    let named = host.filter(|host| host.chars().all(plain));
    let full = named.map(|host| format!("{POLICY} ws://{host} wss://{host}"));
    full.and_then(|full| HeaderValue::from_str(&full).ok())
        .unwrap_or(HeaderValue::from_static(POLICY))
}

async fn asset(request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let found = assets::find(request.uri().path());
    found.unwrap_or_else(|| (StatusCode::NOT_FOUND, "there is no such page").into_response())
}

async fn ask(State(site): State<Site>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(permit) = site.sessions.try_acquire_owned() else {
        tracing::warn!("refused a page: {SESSIONS_MAX} are connected");
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX).on_upgrade(
        async move |socket| {
            session::run(socket, site.shared).await;
            drop(permit);
        },
    )
}

/// The text of a source file of the recording, by the path that was recorded.
async fn source(State(site): State<Site>, Path(path): Path<String>) -> Response {
    let shared = &site.shared;
    match shared.sources.read(&format!("/{path}"), &shared.pool).await {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(why) => {
            tracing::debug!(path, %why, "no source file");
            (StatusCode::NOT_FOUND, "no source file of this recording that may be read")
                .into_response()
        }
    }
}
