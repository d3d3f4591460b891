//! The server as pages and attackers see it: real connections, with workers that do as told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket, client::IntoClientRequest, client::client_with_config};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A server in a process of its own, since signals end it: this program again, at `the_server`.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(arguments: &[(&str, &str)]) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_server", "--exact", "--nocapture"])
            .env("SERVE_TEST", "yes")
            .envs(arguments.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("LAUNCHED ") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0);
        }
        let address = line.split("LAUNCHED ").nth(1).unwrap().trim().parse().unwrap();
        // What else is printed must not block it.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Server { child, address }
    }

    fn page(&self) -> Page {
        let page = self.try_page("127.0.0.1", Some("http://127.0.0.1")).unwrap();
        assert_eq!(page.hello["hello"]["version"], 1);
        page
    }

    fn try_page(&self, host: &str, origin: Option<&str>) -> Result<Page, String> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut request = format!("ws://{host}/ask").into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let config = WebSocketConfig::default();
        let (socket, _) =
            client_with_config(request, stream, Some(config)).map_err(|error| error.to_string())?;
        let mut page = Page { socket, hello: Value::Null };
        page.hello = page.next();
        Ok(page)
    }

    /// The whole answer to a request that is written as given.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn interrupt(mut self) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

struct Page {
    socket: WebSocket<TcpStream>,
    hello: Value,
}

impl Page {
    fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        match self.socket.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => self.next(),
            other => panic!("{other:?}"),
        }
    }

    /// All messages of an answer; the last has `end`.
    fn ask(&mut self, question: &str, arguments: Value) -> Vec<Value> {
        self.send(&json!({"ask": 5, "question": question, "arguments": arguments}));
        self.rest()
    }

    fn rest(&mut self) -> Vec<Value> {
        let mut all = vec![];
        loop {
            let message = self.next();
            let ended = message.get("end").is_some();
            if message.get("changed").is_none() {
                all.push(message);
            }
            if ended {
                return all;
            }
        }
    }
}

/// No test by itself: what `Server::start` runs.
#[test]
fn the_server() {
    if std::env::var_os("SERVE_TEST").is_none() {
        return;
    }
    let sources = std::env::var("SERVE_SOURCES").ok();
    let options = serve::Options {
        worker: serve::WorkerCommand {
            program: "python3".into(),
            arguments: vec![Path::new(HERE).join("tests/worker.py").into()],
        },
        workers: 1,
        program: "tested".into(),
        identity: "abc".into(),
        storage: std::env::var_os("SERVE_STORAGE").map(Into::into),
        sources: sources.iter().map(|given| serve::SourceRule::parse(given).unwrap()).collect(),
        tunnel: None,
        names: vec![],
    };
    serve::run(options, |launched| println!("LAUNCHED {}", launched.local)).unwrap();
    std::process::exit(0);
}

#[test]
fn the_page_and_its_headers() {
    let server = Server::start(&[]);
    let answer = server.get("/index.html");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200") && body.contains("client.js"), "{answer}");
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    assert!(!head.contains("unsafe-inline") && !head.contains("unsafe-eval"));
    assert!(head.contains("x-content-type-options: nosniff"));
    assert!(server.get("/").contains("client.js"));
    for path in ["/nothing", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/dist/index.html"] {
        assert!(server.get(path).starts_with("HTTP/1.1 404"), "{path}");
    }
    let post = "POST /index.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(server.raw(post).starts_with("HTTP/1.1 405"));
}

#[test]
fn answers_are_streamed_and_numbered() {
    let server = Server::start(&[]);
    let mut page = server.page();
    let answer = page.ask("rows", json!({"count": 300}));
    assert_eq!(answer.len(), 301);
    assert!((0..300).all(|at| answer[at]["rows"][0]["row"] == at && answer[at]["ask"] == 5));
    assert_eq!(answer[300]["end"], "complete");
    assert!(answer[300]["times"]["queue"].is_number());
    // Another page's numbers are its own.
    let mut other = server.page();
    page.send(&json!({"ask": 5, "question": "wait"}));
    assert_eq!(page.next()["rows"][0]["waiting"], true);
    other.send(&json!({"cancel": 5}));
    other.send(&json!({"ask": 5, "question": "echo", "focus": {"moment": "12"}}));
    page.send(&json!({"cancel": 5}));
    assert_eq!(page.next()["end"], "cancelled");
    let answer = other.rest();
    assert_eq!(answer[0]["rows"][0]["focus"]["moment"], "12");
}

#[test]
fn what_is_cancelled_in_the_queue_costs_nothing() {
    let server = Server::start(&[]);
    let mut page = server.page();
    page.send(&json!({"ask": 1, "question": "wait"}));
    page.send(&json!({"ask": 2, "question": "die"}));
    page.send(&json!({"cancel": 2}));
    assert_eq!(page.next()["ask"], 1);
    page.send(&json!({"cancel": 1}));
    let ends = [page.next(), page.next()];
    assert!(ends.iter().all(|end| end["end"] == "cancelled"), "{ends:?}");
}

#[test]
fn workers_that_die_are_replaced() {
    let server = Server::start(&[]);
    let mut page = server.page();
    let pid = |page: &mut Page| page.ask("pid", json!({}))[0]["rows"][0]["pid"].clone();
    let first = pid(&mut page);
    for question in ["die", "half"] {
        let answer = page.ask(question, json!({}));
        assert_eq!(answer.last().unwrap()["error"]["code"], "worker", "{answer:?}");
    }
    let what = page.ask("die", json!({})).pop().unwrap()["error"]["what"].to_string();
    assert!(what.contains("exit status: 7"), "{what}");
    assert_ne!(first, pid(&mut page));
    let answer = page.ask("noise", json!({}));
    assert_eq!(answer.len(), 1, "{answer:?}");
    // Neither deadlines nor cancels reach it.
    let begun = Instant::now();
    page.send(&json!({"ask": 5, "question": "deaf", "deadline": 100}));
    assert_eq!(page.rest()[0]["error"]["code"], "worker");
    assert!(begun.elapsed() < LONG);
    pid(&mut page);
}

#[test]
fn pages_that_go_leave_no_work() {
    let server = Server::start(&[]);
    let mut page = server.page();
    page.send(&json!({"ask": 1, "question": "wait"}));
    page.next();
    drop(page);
    assert_eq!(server.page().ask("echo", json!({})).last().unwrap()["end"], "complete");
}

#[test]
fn foreign_pages_are_refused() {
    let server = Server::start(&[]);
    for (host, origin) in [
        ("127.0.0.1", Some("http://evil.example")),
        ("127.0.0.1", Some("null")),
        ("evil.example", None),
        ("evil.example", Some("http://evil.example")),
        ("localhost.evil.example:3000", None),
    ] {
        let error = server.try_page(host, origin).err().unwrap();
        assert!(error.contains("403"), "{host} {origin:?}: {error}");
    }
    assert!(server.try_page("localhost", None).is_ok());
    let request = |host: &str| {
        server.raw(&format!("GET /index.html HTTP/1.1\r\n{host}Connection: close\r\n\r\n"))
    };
    for host in ["", "Host: evil.example\r\n", "Host: localhost\r\nHost: localhost\r\n"] {
        assert!(!request(host).starts_with("HTTP/1.1 200"), "{host}");
    }
}

#[test]
fn messages_that_are_none() {
    let server = Server::start(&[]);
    let mut page = server.page();
    let deep = format!("{{\"ask\": 1, \"question\": {}", "[".repeat(50_000));
    for text in ["", "{", "[]", "{\"ask\": -1}", "{\"ask\": 1}", "null", "\u{0}", &deep] {
        page.socket.send(Message::text(text)).unwrap();
        let answer = page.next();
        assert_eq!(answer["error"]["code"], "bad-request", "{text:.40}: {answer}");
    }
    page.socket.send(Message::binary(vec![0; 10])).unwrap();
    assert_eq!(page.next()["error"]["code"], "bad-request");
    // Too long a message ends this connection alone.
    _ = page.socket.send(Message::text("x".repeat(1 << 20)));
    while page.socket.read().is_ok() {}
    let mut page = server.page();
    for number in 0..200 {
        page.send(&json!({"ask": number, "question": "wait"}));
    }
    let mut refused = 0;
    while refused < 200 - 128 {
        refused += usize::from(page.next()["error"]["code"] == "bad-request");
    }
    drop(page);
    assert_eq!(server.page().ask("echo", json!({})).last().unwrap()["end"], "complete");
}

#[test]
fn a_thousand_connections() {
    let server = Server::start(&[]);
    let mut streams = vec![];
    for _ in 0..1000 {
        streams.push(TcpStream::connect(server.address).unwrap());
    }
    drop(streams);
    let begun = Instant::now();
    while !server.get("/index.html").starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < LONG, "the server is not back");
        std::thread::yield_now();
    }
    let pages: Vec<_> = (0..80).map(|_| server.try_page("localhost", None)).collect();
    assert!(pages.iter().filter(|page| page.is_ok()).count() <= 64);
    assert!(server.get("/index.html").starts_with("HTTP/1.1 200"));
}

#[test]
fn sources_are_those_of_the_recording_below_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("src")).unwrap();
    std::fs::write(root.join("src/a.c"), "int a;\n").unwrap();
    std::fs::write(root.join("src/<b>.c"), "<script>alert(1)</script>").unwrap();
    std::fs::write(root.join("src/other.c"), "not of the recording").unwrap();
    std::fs::write(root.join("secret"), "secret").unwrap();
    symlink(root.join("secret"), root.join("src/link.c")).unwrap();
    let rule = format!("/build={}/src", root.display());
    let server = Server::start(&[("SERVE_SOURCES", &rule)]);
    let answer = server.get("/sources/build/a.c");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("int a;\n"), "{answer}");
    let answer = server.get("/sources/build/%3Cb%3E.c").to_lowercase();
    assert!(answer.contains("content-type: text/plain") && answer.contains("nosniff"), "{answer}");
    for path in [
        "build/link.c",
        "build/other.c",
        "build/no.c",
        "build/../../secret",
        "build/%2e%2e/%2e%2e/secret",
        "build/..%2f..%2fsecret",
        "build/%2e%2e%5c%2e%2e/secret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "etc/passwd",
        "build/a.c%00",
        "build//a.c",
        "build/./a.c",
        "build",
        "%ff%fe",
        "build/%252e%252e/secret",
    ] {
        let answer = server.get(&format!("/sources/{path}"));
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.ends_with("secret"), "{path}: {answer}");
    }
    let mut page = server.page();
    let row = page.ask("source", json!({"file": "/build/a.c"})).remove(0)["rows"][0].clone();
    assert_eq!((row["text"].as_str(), row["from"].as_str()), (Some("int a;\n"), Some("directory")));
    // What is not there is the worker's to answer.
    assert_eq!(page.ask("source", json!({"file": "/build/no.c"})).len(), 1);
}

#[test]
fn bookmarks_are_seen_by_all_pages_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let storage = directory.path().join("kept/here");
    let arguments = [("SERVE_STORAGE", storage.to_str().unwrap())];
    let server = Server::start(&arguments);
    let (mut page, mut other) = (server.page(), server.page());
    let bookmark = json!({"moment": "7", "task": 1, "text": "<b>here</b>"});
    assert_eq!(page.ask("bookmark-add", bookmark)[0]["rows"][0]["bookmark"], 1);
    assert_eq!(other.next(), json!({"changed": "bookmarks"}));
    assert_eq!(other.ask("bookmarks", json!({}))[0]["rows"][0]["text"], "<b>here</b>");
    let error = page.ask("bookmark-add", json!({"moment": "x"})).remove(0)["error"].clone();
    assert_eq!(error["code"], "bad-request");
    assert!(server.interrupt().success());
    let server = Server::start(&arguments);
    assert_eq!(server.page().ask("bookmarks", json!({}))[0]["rows"][0]["moment"], "7");
}

#[test]
fn an_interruption_is_a_good_end() {
    let server = Server::start(&[]);
    let mut page = server.page();
    page.send(&json!({"ask": 1, "question": "wait"}));
    assert_eq!(page.next()["ask"], 1);
    // One is worked on, one waits.
    page.send(&json!({"ask": 2, "question": "deaf"}));
    assert!(server.interrupt().success());
}
