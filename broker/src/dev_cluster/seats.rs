//! Which broker of a cluster on one machine has which address, folder and number. Decides without IO but for one look at the folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use tidelog_log::data_dir::FORMAT;

use super::DevClusterError;
use crate::config::Config;
use crate::member::Address;

/// Where a broker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seat {
    /// Its number.
    pub(super) broker: u32,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// Where its admin port is.
    pub(super) admin: SocketAddr,
    /// Its folder.
    pub(super) data: PathBuf,
    /// What others dial.
    pub(super) address: Address,
    /// Whom it joins; the first joins nobody, unless it alone has lost its folder.
    pub(super) join: Option<Address>,
    /// Whom it joins where it is started again: its folder may be gone by then.
    pub(super) rejoin: Option<Address>,
    /// Says its address itself: nobody can dial where it listens.
    pub(super) advertises: bool,
}

/// Which start of a seat it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// With the others.
    First,
    /// After it ended.
    Again,
}

/// Ports count up from those of the first broker.
pub(super) fn assign(config: &Config, brokers: u32) -> Result<Vec<Seat>, DevClusterError> {
    let folder = &config.data.0;
    if folder.join(FORMAT).exists() {
        return Err(DevClusterError::OneBrokersFolder(folder.clone()));
    }
    if config.join.0.is_some() || config.advertise.0.is_some() {
        return Err(DevClusterError::Usage("gives every broker its own join and advertise: leave them out".into()));
    }
    if config.broker_id != Config::default().broker_id {
        return Err(DevClusterError::Usage(
            "gives every broker a broker_id of its own, from 1 on: leave it out".into(),
        ));
    }
    let last = |first: SocketAddr| first.port().checked_add(brokers as u16 - 1).filter(|_| first.port() != 0);
    for (key, first) in [("listen", config.listen), ("admin_listen", config.admin_listen)] {
        if last(first).is_none() {
            let sentence =
                format!("needs {brokers} ports from that of {key} on, which is {}: set another", first.port());
            return Err(DevClusterError::Usage(sentence));
        }
    }
    let (listen, admin) = (config.listen, config.admin_listen);
    let overlap = u32::from(listen.port().abs_diff(admin.port())) < brokers;
    if overlap && (listen.ip() == admin.ip() || listen.ip().is_unspecified() || admin.ip().is_unspecified()) {
        let sentence =
            format!("needs {brokers} ports each for listen and admin_listen: {listen} and {admin} are too close");
        return Err(DevClusterError::Usage(sentence));
    }
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let at = |first: SocketAddr, number: u32| SocketAddr::new(first.ip(), first.port() + number as u16);
    let address = |number| Address { host: host.to_string(), port: at(listen, number).port() };
    let folder_of = |number: u32| folder.join(format!("broker-{}", number + 1));
    let is_there = |number: u32| folder_of(number).join(FORMAT).exists();
    // A first one that founded a second cluster beside the one that there is would be of no use.
    let first_is_lost = !is_there(0) && (1..brokers).any(is_there);
    let other = |number: u32| (brokers > 1).then(|| address(u32::from(number == 0)));
    let seat = |number: u32| Seat {
        broker: number + 1,
        listen: at(listen, number),
        admin: at(admin, number),
        data: folder_of(number),
        address: address(number),
        join: other(number).filter(|_| number > 0 || first_is_lost),
        rejoin: other(number),
        advertises: listen.ip().is_unspecified(),
    };
    Ok((0..brokers).map(seat).collect())
}

impl Seat {
    /// Its settings, as flags.
    pub(super) fn settings(&self, start: Start) -> Vec<String> {
        let join = if start == Start::First { &self.join } else { &self.rejoin };
        let mut settings = vec![
            format!("listen={}", self.listen),
            format!("admin_listen={}", self.admin),
            format!("data={}", self.data.display()),
            format!("broker_id={}", self.broker),
            format!("join={}", join.as_ref().map(ToString::to_string).unwrap_or_default()),
        ];
        if self.advertises {
            settings.push(format!("advertise={}", self.address));
        }
        settings.into_iter().flat_map(|setting| ["--set".into(), setting]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Advertise, OwnId, PathText};

    fn config(listen: &str) -> Config {
        let mut config = Config { data: PathText("nowhere-at-all".into()), ..Config::default() };
        config.set("listen", listen).unwrap();
        config
    }

    #[test]
    fn ports_count_up_and_folders_lie_side_by_side() {
        let seats = assign(&config("127.0.0.1:9092"), 3).unwrap();
        let shown: Vec<_> = seats.iter().map(|seat| (seat.broker, seat.listen.port(), seat.admin.port())).collect();
        assert_eq!(shown, [(1, 9092, 9640), (2, 9093, 9641), (3, 9094, 9642)]);
        assert_eq!(seats[2].data, PathBuf::from("nowhere-at-all/broker-3"));
        assert_eq!((&seats[0].join, seats[1].join.as_ref()), (&None, Some(&seats[0].address)));
        assert_eq!((&seats[0].rejoin, &seats[1].rejoin), (&Some(seats[1].address.clone()), &seats[1].join));
    }

    #[test]
    fn who_listens_everywhere_is_dialled_on_this_machine() {
        let seats = assign(&config("0.0.0.0:9092"), 2).unwrap();
        assert!(seats[1].settings(Start::First).contains(&"advertise=127.0.0.1:9093".to_string()));
        assert!(
            !assign(&config("127.0.0.1:9092"), 1).unwrap()[0]
                .settings(Start::First)
                .iter()
                .any(|s| s.contains("advertise"))
        );
    }

    #[test]
    fn a_first_broker_that_alone_lost_its_folder_joins_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data: PathText(folder.path().into()), ..config("127.0.0.1:9092") };
        for broker in [2, 1] {
            let data = folder.path().join(format!("broker-{broker}"));
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join(FORMAT), b"x").unwrap();
            let seats = assign(&config, 2).unwrap();
            assert_eq!(seats[0].join, Some(seats[1].address.clone()).filter(|_| broker == 2));
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        let refused = |config: &Config| assign(config, 3).unwrap_err().to_string();
        assert!(refused(&config("127.0.0.1:0")).contains("needs 3 ports from that of listen on"));
        assert!(refused(&config("127.0.0.1:65534")).contains("which is 65534"));
        assert!(refused(&config("127.0.0.1:9638")).contains("too close"));
        let joins = Config { join: Advertise(Some(("a".into(), 1))), ..config("127.0.0.1:9092") };
        assert!(refused(&joins).contains("leave them out"));
        let numbered = Config { broker_id: OwnId(Some(2)), ..config("127.0.0.1:9092") };
        assert!(refused(&numbered).contains("broker_id of its own"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FORMAT), b"x").unwrap();
        let single = Config { data: PathText(folder.path().into()), ..config("127.0.0.1:9092") };
        assert!(refused(&single).contains("of a single broker"));
    }
}
