//! `pernosco serve` as users start and end it.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use support::Recording;

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

struct Serving {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Serving {
    fn start(recording: &Recording, arguments: &[&str]) -> Serving {
        let mut command = recording.command(&[&["serve"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Serving { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().into()
    }

    fn end(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The port of a line that ends in `:PORT/index.html`.
fn port(line: &str) -> u16 {
    let rest = line.strip_suffix("/index.html").unwrap();
    rest.rsplit(':').next().unwrap().parse().unwrap()
}

fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn without_a_database_the_command_to_run_is_named() {
    let recording = Recording::new();
    let error = failure(&recording.run(&["serve"]));
    let command = format!("`pernosco build {}`", recording.trace().display());
    assert!(error.contains("no database yet") && error.contains(&command), "{error}");
}

#[test]
fn options_that_are_wrong() {
    let recording = Recording::new();
    assert!(recording.run(&["build"]).status.success());
    let error = failure(&recording.run(&["serve", "--sources", "relative"]));
    assert!(error.contains("--sources relative") && error.contains("absolute"), "{error}");
    let error = failure(&recording.run(&["serve", "--sources", "/no/such/place"]));
    assert!(error.contains("/no/such/place"), "{error}");
    let output = recording.run(&["serve", "--tunnel", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn two_servers_take_two_ports_and_end_well() {
    let recording = Recording::new();
    assert!(recording.run(&["build"]).status.success());
    let mut first = Serving::start(&recording, &[]);
    let line = first.line();
    assert!(line.starts_with("Appserver launched at http://127.0.0.1:"), "{line}");
    let mut second = Serving::start(&recording, &["--tunnel", "127.0.0.1:0"]);
    let other = second.line();
    let tunnel = second.line();
    assert!(tunnel.starts_with("tunneled to http://127.0.0.1:"), "{tunnel}");
    assert_ne!(port(&line), port(&other));
    for port in [port(&line), port(&other), port(&tunnel)] {
        assert!(get(port).starts_with("HTTP/1.1 200"), "{port}");
    }
    assert_eq!((first.end(), second.end()), (Some(0), Some(0)));
}
