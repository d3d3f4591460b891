//! Who may talk to the server: which hosts and origins.
//!
//! A page of anybody's can make the user's browser connect to a port of this machine. What it
//! cannot do is choose the `Origin` that the browser sends, and by giving a name of its own a new
//! address (DNS rebinding) it still cannot choose `Host`. So both are checked; addresses in digits
//! cannot be rebound.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, header};

#[derive(Debug)]
pub struct Guard {
    addresses: Vec<IpAddr>,
    /// Listening on all interfaces: any address may be one of ours.
    any_address: bool,
    names: Vec<String>,
}

impl Guard {
    pub fn new(bound: impl Iterator<Item = SocketAddr>, names: Vec<String>) -> Guard {
        let addresses: Vec<IpAddr> = bound.map(|address| address.ip()).collect();
        let any_address = addresses.iter().any(IpAddr::is_unspecified);
        let beyond = addresses.iter().any(|address| !address.is_loopback());
        // Only who listens beyond the loopback interface is called by its name.
        let names = if beyond { names } else { Vec::new() };
        Guard { addresses, any_address, names }
    }

    /// Whether a request with these headers may be answered.
    ///
    /// # Errors
    ///
    /// The reason for refusing it.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next().and_then(text), hosts.next()) else {
            return Err("a request without one Host");
        };
        if !self.is_ours(host) {
            return Err("this Host is not served here");
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(()) };
        let origin = text(origin).and_then(|origin| {
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
        });
        match origin {
            Some(origin) if origin.eq_ignore_ascii_case(host) && origins.next().is_none() => Ok(()),
            _ => Err("pages of other origins are not answered"),
        }
    }

    /// Ports are left open: a tunnel of the user's may lead here from another one.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        let digits = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match digits.unwrap_or(name).parse::<IpAddr>() {
            Ok(address) => {
                address.is_loopback() || self.any_address || self.addresses.contains(&address)
            }
            Err(_) => {
                name.eq_ignore_ascii_case("localhost")
                    || self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
            }
        }
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// `host`, `host:port`, `[::1]:port`.
fn without_port(host: &str) -> Option<&str> {
    let end = match host.find(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, rest) = host.split_at(end);
    let port = rest.strip_prefix(':');
    let fits = rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok());
    (fits && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        guard.check(&headers).is_ok()
    }

    fn guard(bound: &str) -> Guard {
        Guard::new([bound.parse().unwrap()].into_iter(), vec!["machine".into()])
    }

    #[test]
    fn loopback_is_this_machine_only() {
        let guard = guard("127.0.0.1:3000");
        for host in ["localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:9", "LOCALHOST:1"] {
            assert!(check(&guard, host, None), "{host}");
            assert!(check(&guard, host, Some(&format!("http://{host}"))), "{host}");
        }
        let foreign = [
            "evil.example",
            "localhost.evil.example:3000",
            "127.0.0.1.evil:3000",
            "10.0.0.1",
            "",
            ":3000",
            "localhost:x",
            "machine:3000",
            "[::1",
            "0.0.0.0:3000",
        ];
        for host in foreign {
            assert!(!check(&guard, host, None), "{host}");
        }
        assert!(guard.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn origins_are_the_host_asked() {
        let guard = guard("127.0.0.1:3000");
        for origin in ["http://evil.example", "null", "http://localhost:4000", "file://", ""] {
            assert!(!check(&guard, "localhost:3000", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn tunnels_have_addresses_and_names() {
        let all = guard("0.0.0.0:80");
        assert!(check(&all, "10.1.2.3", None) && check(&all, "machine:80", None));
        assert!(!check(&all, "evil.example", None));
        let one = guard("10.0.0.1:80");
        assert!(check(&one, "10.0.0.1", None) && !check(&one, "10.0.0.2", None));
    }
}
