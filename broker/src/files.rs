//! How the file descriptors of this process are shared out: what partitions may take, so that clients find some, and how many clients there
//! may be beside them. Pure, but for being told the limit.

use tidelog_protocol::{ErrorCode, WireError};

/// What the broker itself has open: logs of metadata, ports, links to other brokers, compaction.
const OWN: u64 = 128;
/// What a partition has open, at most, while it is written to: its segment, and the one that comes next.
const PER_PARTITION: u64 = 2;
/// This part of the rest is for clients, where they may be so many.
const CLIENTS_SHARE: u64 = 3;

/// The descriptors of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Files {
    limit: u64,
    connections_max: u64,
}

impl Files {
    /// A process that may open so many files, and has so many clients at most.
    #[must_use]
    pub const fn new(limit: u64, connections_max: u32) -> Self {
        Self { limit, connections_max: connections_max as u64 }
    }

    /// How many are kept for clients.
    #[must_use]
    pub fn for_clients(self) -> u64 {
        (self.limit.saturating_sub(OWN) / CLIENTS_SHARE).min(self.connections_max)
    }

    /// How many clients there may be beside so many partitions.
    #[must_use]
    pub fn clients_max(self, partitions: u64) -> ClientsMax {
        let left = self.limit.saturating_sub(OWN).saturating_sub(partitions.saturating_mul(PER_PARTITION));
        let most = left.max(self.for_clients());
        if most < self.connections_max {
            ClientsMax { count: most, files: Some(self.limit) }
        } else {
            ClientsMax { count: self.connections_max, files: None }
        }
    }

    /// How many partitions there may be here, beside so many clients.
    #[must_use]
    pub fn partitions_max(self, clients: u64) -> u64 {
        self.limit.saturating_sub(OWN).saturating_sub(self.for_clients().max(clients)) / PER_PARTITION
    }

    /// What an operator should know: the limit is too low for as many clients as there may be.
    #[must_use]
    pub fn warning(self) -> Option<String> {
        let (limit, clients, partitions) = (self.limit, self.connections_max, self.partitions_max(0));
        (clients.saturating_add(OWN) > limit).then(|| {
            format!("this process may open {limit} files, which is too few for connections_max = {clients}: {} are kept for clients, more are taken as long as there are descriptors, and {partitions} partitions can be here; raise the limit (ulimit -n, LimitNOFILE=), or lower connections_max", self.for_clients())
        })
    }

    /// May there be so many more beside those that are here, and so many clients?
    ///
    /// # Errors
    /// InvalidPartitions, with what to do.
    pub fn check(self, here: u64, more: u64, clients: u64) -> Result<(), WireError> {
        let (limit, most) = (self.limit, self.partitions_max(clients));
        if here.saturating_add(more) <= most {
            return Ok(());
        }
        let sentence = format!(
            "{more} more partitions would be here beside {here}, and this broker may open {limit} files, enough for {most} and its clients, {clients} now: nothing was created; raise the limit of open files (ulimit -n, LimitNOFILE=), or create fewer"
        );
        Err(WireError::new(ErrorCode::InvalidPartitions, sentence))
    }
}

/// How many clients there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientsMax {
    /// So many.
    pub count: u64,
    /// Where it is not the configuration that says so: how many files the process may open.
    files: Option<u64>,
}

impl ClientsMax {
    /// Why there may be no more, and what to do.
    #[must_use]
    pub fn reason(self) -> String {
        let count = self.count;
        match self.files {
            None => format!("connections_max is reached: {count} are open; close some, or raise it"),
            Some(files) => format!(
                "{count} connections are open, and this broker may open {files} files, enough for no more beside its partitions; close some, or raise the limit of open files (ulimit -n, LimitNOFILE=)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_leave_descriptors_for_clients() {
        let few = Files::new(1_024, 10_000);
        assert_eq!((few.for_clients(), few.partitions_max(0)), (298, 299));
        assert!(few.check(100, 199, 298).is_ok());
        let refusal = few.check(100, 200, 0).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidPartitions);
        assert!(refusal.message.contains("1024 files") && refusal.message.contains("ulimit -n"), "{refusal}");
        assert!(few.warning().unwrap().contains("connections_max = 10000"));
        let many = Files::new(1 << 20, 10_000);
        assert!(many.warning().is_none() && many.partitions_max(0) > 500_000);
        assert_eq!(Files::new(64, 10_000).partitions_max(0), 0);
    }

    #[test]
    fn clients_have_what_partitions_leave_and_partitions_what_clients_do() {
        let few = Files::new(1_024, 10_000);
        assert_eq!(few.clients_max(0).count, 896);
        assert_eq!(few.clients_max(299).count, 298, "no fewer than are kept for them");
        assert_eq!(few.clients_max(10_000).count, 298);
        assert!(few.clients_max(0).reason().contains("ulimit -n"));
        for partitions in [0, 100, 299] {
            let clients = few.clients_max(partitions).count;
            assert!(few.check(partitions, 0, clients).is_ok() && OWN + 2 * partitions + clients <= 1_024);
        }
        let refusal = few.check(100, 1, few.clients_max(100).count).unwrap_err();
        assert!(refusal.message.contains("696 now"), "{refusal}");
        let many = Files::new(1 << 20, 10_000).clients_max(1_000);
        assert_eq!(many.count, 10_000);
        assert!(many.reason().contains("connections_max"), "{}", many.reason());
    }
}
