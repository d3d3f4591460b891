//! The page, embedded: what `client` builds into `dist`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $kind:literal),* $(,)?) => {
        &[$(Asset {
            path: concat!("/", $name),
            kind: $kind,
            bytes: include_bytes!(concat!("../dist/", $name)),
        }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "index.html": "text/html; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
    "languages.js": "text/javascript; charset=utf-8",
    "client.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
};

/// The file of the page at a path, if there is one.
pub fn find(path: &str) -> Option<Response> {
    let path = if path == "/" { "/index.html" } else { path };
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let mut response = Response::new(Body::from(asset.bytes));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that the build writes and nobody could load.
    #[test]
    fn every_file_is_embedded() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(find(&format!("/{name}")).is_some(), "{name} is not embedded");
        }
        assert!(find("/").is_some() && find("/nothing").is_none() && find("/../x").is_none());
    }

    /// What the policy of the server forbids does not work, so it must not be there.
    #[test]
    fn nothing_inline_and_nothing_foreign() {
        let page = std::str::from_utf8(ASSETS[0].bytes).unwrap();
        for forbidden in ["<style", " style=", " onclick", "://"] {
            assert!(!page.contains(forbidden), "{forbidden} in index.html");
        }
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\"").count()
        );
    }
}
