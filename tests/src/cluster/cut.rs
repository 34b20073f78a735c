//! Ways between brokers that are cut: every packet on them is dropped and counted, until they are mended. Knows nothing of connections. The
//! rules stand in the namespace of a broker, never in that of the machine.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::private_network::{PrivateNetwork, inside};

/// Who is at one end of a way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A broker.
    Broker(u32),
    /// All clients of the test.
    Clients,
}

/// Cut ways; mended where it is dropped.
#[derive(Debug)]
#[must_use = "a cut that is dropped at once was none"]
pub struct Cut {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    namespace: String,
    name: String,
}

impl PrivateNetwork {
    /// From now on nothing passes from the first to the second of each pair; the other direction stays open.
    ///
    /// # Panics
    /// Where the rules cannot be set.
    pub fn cut_one_way(&self, ways: &[(End, End)]) -> Cut {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cut{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut cut = Cut { tables: Vec::new() };
        for id in 1..=self.brokers() {
            let mut rules = [String::new(), String::new()];
            for (from, to) in ways {
                match (*from, *to) {
                    (from, End::Broker(to)) if to == id => {
                        rules[0].push_str(&format!("    ip saddr {} counter drop\n", self.end(from)));
                    }
                    // Clients are where no rule may stand, so what they shall not get must not leave.
                    (End::Broker(from), End::Clients) if from == id => {
                        rules[1].push_str(&format!("    ip daddr {} counter drop\n", self.clients()));
                    }
                    _ => {}
                }
            }
            if rules.iter().all(String::is_empty) {
                continue;
            }
            let [input, output] = rules;
            let script = format!(
                "table inet {name} {{\n  chain in {{\n    type filter hook input priority 0\n{input}  }}\n  chain out {{\n    \
                 type filter hook output priority 0\n{output}  }}\n}}\n"
            );
            let table = Table { namespace: self.namespace(id), name: name.clone() };
            table.run(&["-f", "-"], &script);
            cut.tables.push(table);
        }
        assert!(!cut.tables.is_empty(), "a cut of no way");
        cut
    }

    /// From now on nobody can dial a broker, nor ask it anything over a connection that was dialled before; it reaches everybody itself.
    ///
    /// # Panics
    /// Where the rules cannot be set.
    pub fn cut_dials_to(&self, broker: u32, port: u16) -> Cut {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("dials{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let script = format!(
            "table inet {name} {{\n  chain in {{\n    type filter hook input priority 0\n    tcp dport {port} counter drop\n  }}\n}}\n"
        );
        let table = Table { namespace: self.namespace(broker), name };
        let _ = table.run(&["-f", "-"], &script);
        Cut { tables: vec![table] }
    }

    /// From now on nothing passes between the two of each pair.
    ///
    /// # Panics
    /// Where the rules cannot be set.
    pub fn cut(&self, pairs: &[(End, End)]) -> Cut {
        let both: Vec<_> = pairs.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]).collect();
        self.cut_one_way(&both)
    }

    /// From now on a broker is alone: nothing passes between it and any other, nor the clients.
    ///
    /// # Panics
    /// Where the rules cannot be set.
    pub fn isolate(&self, broker: u32) -> Cut {
        let others = (1..=self.brokers()).filter(|id| *id != broker).map(End::Broker).chain([End::Clients]);
        let pairs: Vec<_> = others.map(|other| (End::Broker(broker), other)).collect();
        self.cut(&pairs)
    }

    fn end(&self, end: End) -> Ipv4Addr {
        match end {
            End::Broker(id) => self.address(id),
            End::Clients => self.clients(),
        }
    }
}

impl Cut {
    /// Packets dropped so far.
    ///
    /// # Panics
    /// Where the rules are gone.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let count = |table: &Table| {
            let text = table.run(&["-j", "list", "table", "inet", &table.name], "");
            let rules: Value = serde_json::from_str(&text).unwrap();
            let parts = rules["nftables"].as_array().unwrap().iter().flat_map(|item| item["rule"]["expr"].as_array());
            parts.flatten().filter_map(|part| part["counter"]["packets"].as_u64()).sum::<u64>()
        };
        self.tables.iter().map(count).sum()
    }

    /// The ways are open again; says how many packets were dropped.
    ///
    /// # Panics
    /// Where the rules are gone.
    pub fn mend(self) -> u64 {
        self.dropped()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for Table { namespace, name } in &self.tables {
            let [program, network] = inside(namespace);
            // The namespace may be gone already.
            let _ = Command::new(program).args([&network, "nft", "delete", "table", "inet", name]).output();
        }
    }
}

impl Table {
    fn run(&self, arguments: &[&str], script: &str) -> String {
        let [program, network] = inside(&self.namespace);
        let mut command = Command::new(program);
        command.arg(network).arg("nft").args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nft {arguments:?} in {}: {complaint}\n{script}", self.namespace);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::broker_process::BrokerSettings;
    use crate::requirements::{Need, requires};

    #[test]
    fn a_cut_way_lets_nothing_pass_and_a_mended_one_does() {
        if !requires("cut", &[Need::Namespaces]) {
            return;
        }
        let network = PrivateNetwork::new(1);
        let at = |port| SocketAddr::new(network.address(1).into(), port);
        let settings = BrokerSettings::new().under(network.launch_prefix(1)).listen(at(9092)).admin_listen(at(9640));
        let process = settings.start();
        let reaches = || TcpStream::connect_timeout(&process.address(), Duration::from_millis(500)).is_ok();
        assert!(reaches());
        let (clients, broker) = (End::Clients, End::Broker(1));
        for ways in [vec![(clients, broker)], vec![(broker, clients)], vec![(clients, broker), (broker, clients)]] {
            let cut = network.cut_one_way(&ways);
            assert!(!reaches());
            assert!(cut.mend() > 0);
            assert!(reaches());
        }
    }
}
