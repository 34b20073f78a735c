//! Asks an admin port, one request a connection. Knows nothing of what is there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::patience::LIMIT;

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The head: status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks for a path.
///
/// # Errors
/// Where nobody answers, or not in HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<HttpAnswer> {
    let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
    socket.set_read_timeout(Some(LIMIT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| anyhow::anyhow!("no HTTP answer: {text:?}"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(HttpAnswer { status, head: head.into(), body: body.into() })
}
