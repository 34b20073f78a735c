//! What an operator can do where an address cannot be listened on. Knows nothing of sockets.

use std::io;

/// Continues "cannot listen on ADDRESS: ERROR; ".
pub(crate) fn port_remedy(key: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("end what uses it, or set {key} to another port"),
        io::ErrorKind::AddrNotAvailable => {
            format!("set {key} to an address of this machine: 127.0.0.1 for programs on it, 0.0.0.0 for everybody")
        }
        io::ErrorKind::PermissionDenied => {
            format!("set {key} to a port from 1024 on, or allow this process the others")
        }
        _ => format!("set {key} to another address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_end_what_uses_an_address_that_is_not_of_this_machine() {
        let remedy = port_remedy("listen", &io::ErrorKind::AddrNotAvailable.into());
        assert!(
            remedy.contains("set listen to an address of this machine") && !remedy.contains("end what"),
            "{remedy}"
        );
    }
}
