//! Addresses to dial: text in, host and port out. Knows nothing of name resolution.

use core::fmt;
use core::str::FromStr;

/// A host name or IP address, and a TCP port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// The port that a broker listens on unless told otherwise.
    pub const DEFAULT_PORT: u16 = 9092;
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    /// `host:port`, `host`, `[v6]:port` or `[v6]`; the port is 9092 where none is given.
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let refuse = |reason| InvalidAddress { text: text.into(), reason };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(|| refuse("the bracket is not closed"))?;
            match after {
                "" => (host, None),
                _ => (host, Some(after.strip_prefix(':').ok_or_else(|| refuse("only ':' and a port may follow ']'"))?)),
            }
        } else {
            match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(refuse("an IPv6 address stands in brackets, as in [::1]:9092"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        if host.is_empty() {
            return Err(refuse("the host is empty"));
        }
        let port = match port {
            None => Self::DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(refuse("the port must be a number from 1 to 65535")),
            },
        };
        Ok(Self { host: host.into(), port })
    }
}

/// One address or several, separated by commas: any of them that answers leads to the whole cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses(Vec<Address>);

impl Addresses {
    /// In the order they were given; at least one.
    #[must_use]
    pub fn as_slice(&self) -> &[Address] {
        &self.0
    }
}

impl FromStr for Addresses {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        text.split(',').map(Address::from_str).collect::<Result<_, _>>().map(Self)
    }
}

/// The text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not an address: {reason}")]
pub struct InvalidAddress {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let parsed = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(parsed("broker-1:19092").as_deref(), Ok("broker-1:19092"));
        assert_eq!(parsed(" 127.0.0.1 ").as_deref(), Ok("127.0.0.1:9092"));
        assert_eq!(parsed("[::1]:7").as_deref(), Ok("[::1]:7"));
        assert_eq!(parsed("[::1]").as_deref(), Ok("[::1]:9092"));
        for bad in ["", ":9092", "a:0", "a:65536", "a:x", "::1", "[::1", "[::1]9092", "a,b"] {
            assert!(bad.parse::<Addresses>().is_err() || bad == "a,b", "{bad:?}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_refuses_an_empty_entry() {
        let list: Addresses = "b:1,a:2".parse().unwrap();
        assert_eq!(list.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>(), ["b:1", "a:2"]);
        assert!("b:1,,a:2".parse::<Addresses>().is_err());
    }
}
