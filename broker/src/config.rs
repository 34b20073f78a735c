//! The configuration of a broker: one table of keys, each with its type, unit, range and default. Knows nothing of files,
//! environment or flags; `config_sources.rs` layers those and calls [`Config::set`].

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// A key or value that cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such key.
    #[error("unknown config key '{key}'{}; `tidelog-broker --print-config` lists them all", suggestion(.nearest))]
    UnknownKey {
        /// As written.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value does not parse or is out of range.
    #[error("config key '{key}' cannot be '{value}': expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// Type, unit and range.
        expected: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!(" (did you mean '{key}'?)")).unwrap_or_default()
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Something that is done or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch(pub bool);

impl FromStr for Switch {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().map(Self).map_err(|_| ())
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address that clients are told to dial; empty means "the one they dialled".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Advertise(pub Option<(String, u16)>);

impl FromStr for Advertise {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().map_err(|_| ())?;
        if host.is_empty() || port == 0 { Err(()) } else { Ok(Self(Some((host.into(), port)))) }
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((host, port)) => write!(f, "{host}:{port}"),
            None => Ok(()),
        }
    }
}

/// The number of a broker; empty means "as its folder knows, or the next".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnId(pub Option<u32>);

impl FromStr for OwnId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().ok().filter(|number| *number <= i32::MAX as u32).map(|number| Self(Some(number))).ok_or(())
    }
}

impl fmt::Display for OwnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |number| number.fmt(f))
    }
}

/// A number with the suffixes that people write: `64KiB`, `1GiB`, `30s`, `5m`, `2h`, `7d`, or none.
fn scaled(text: &str, unit: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: u64 = number.replace('_', "").parse().ok()?;
    let scale = match (suffix.trim(), unit) {
        ("", _) => 1,
        ("B", "bytes") | ("ms", "milliseconds") => 1,
        ("KiB", "bytes") => 1 << 10,
        ("MiB", "bytes") => 1 << 20,
        ("GiB", "bytes") => 1 << 30,
        ("s", "milliseconds") => 1_000,
        ("m", "milliseconds") => 60_000,
        ("h", "milliseconds") => 3_600_000,
        ("d", "milliseconds") => 86_400_000,
        _ => return None,
    };
    number.checked_mul(scale)
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigRow {
    /// The key.
    pub key: &'static str,
    /// What it means, in lines that begin with a space.
    pub doc: &'static [&'static str],
    /// Which values are possible, with their unit.
    pub expected: String,
    /// The value that holds.
    pub value: String,
    /// The value where none is set.
    pub default: String,
    /// Whether its values are numbers.
    pub is_number: bool,
}

impl Config {
    /// The configuration as an annotated file that can be read back.
    #[must_use]
    pub fn to_annotated_toml(&self) -> String {
        let mut out = String::from("# Configuration of tidelog-broker. Every key, with its unit and range.\n");
        for ConfigRow { key, doc, expected, value, is_number, .. } in self.rows() {
            out.push('\n');
            for line in doc {
                out.push_str(&format!("#{line}\n"));
            }
            let value = if is_number { value } else { toml::Value::String(value).to_string() };
            out.push_str(&format!("# Expects {expected}.\n{key} = {value}\n"));
        }
        out
    }
}

macro_rules! config_table {
    ($(
        $(#[doc = $doc:literal])*
        $key:ident: $ty:ty = $default:expr, $kind:ident $([$unit:literal $low:literal ..= $high:literal])? $(($expected:literal))?;
    )*) => {
        /// Everything that can be set. Each field is a key of the same name, in the config file, as `TIDELOG_<KEY>` in the
        /// environment, and for the common ones as a flag.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Config {
            $($(#[doc = $doc])* pub $key: $ty,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Config {
            /// Every key.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key),)*];

            /// Sets one key from text.
            ///
            /// # Errors
            /// [`ConfigError`] names the key, the value and what would be legal.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
                match key {
                    $(stringify!($key) => {
                        self.$key = config_table!(@parse value, $ty, $kind $([$unit $low ..= $high])?)
                            .ok_or_else(|| ConfigError::Value {
                                key: stringify!($key),
                                value: value.into(),
                                expected: config_table!(@expected $kind $([$unit $low ..= $high])? $(($expected))?),
                            })?;
                        Ok(())
                    })*
                    _ => Err(ConfigError::UnknownKey { key: key.into(), nearest: tidelog_coordination::nearest::nearest(key, Self::KEYS.iter().copied()) }),
                }
            }

            /// Every key with its value, in the order of the table.
            #[must_use]
            pub fn rows(&self) -> Vec<ConfigRow> {
                let default = Self::default();
                vec![$(ConfigRow {
                    key: stringify!($key),
                    doc: &[$($doc,)*],
                    expected: config_table!(@expected $kind $([$unit $low ..= $high])? $(($expected))?),
                    value: self.$key.to_string(),
                    default: default.$key.to_string(),
                    is_number: stringify!($kind) == "number",
                },)*]
            }
        }
    };
    (@parse $value:ident, $ty:ty, number [$unit:literal $low:literal ..= $high:literal]) => {
        scaled($value, $unit).filter(|number| ($low..=$high).contains(number)).and_then(|n| <$ty>::try_from(n).ok())
    };
    (@parse $value:ident, $ty:ty, text) => {
        parse_text::<$ty>($value)
    };
    (@expected number [$unit:literal $low:literal ..= $high:literal]) => {
        format!("{} from {} to {}", $unit, $low, $high)
    };
    (@expected text ($expected:literal)) => {
        $expected.to_string()
    };
}

fn parse_text<T: FromText>(value: &str) -> Option<T> {
    T::from_text(value)
}

/// Text values; paths refuse nothing but emptiness.
trait FromText: Sized {
    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for PathText {
    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() || text.contains('\0') { None } else { Some(Self(text.into())) }
    }
}

macro_rules! from_str_text {
    ($($ty:ty),*) => {$(
        impl FromText for $ty {
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
from_str_text!(LogFormat, Advertise, OwnId, Switch, String);

/// A name such as `localhost` stands for the first address it has, one of version 4 if there is any.
impl FromText for SocketAddr {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| {
            let found: Vec<Self> = text.to_socket_addrs().ok()?.collect();
            found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
        })
    }
}

/// A path that prints as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathText(pub PathBuf);

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

config_table! {
    /// Address of the port that clients connect to.
    listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9092)), text ("an address such as 127.0.0.1:9092 or [::]:9092; port 0 takes any free one");
    /// Address of the admin HTTP port: /livez, /readyz, /metrics.
    admin_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9640)), text ("an address such as 127.0.0.1:9640; port 0 takes any free one");
    /// Connections to the admin port open at once; the oldest is closed for a further one.
    admin_connections_max: u32 = 64, number ["a number" 1u64..=10000u64];
    /// A request to the admin port and its answer may take this long.
    admin_timeout_ms: u64 = 10_000, number ["milliseconds" 10u64..=600000u64];
    /// Folder that holds everything the broker keeps. Created where it is missing; one broker at a time may use it.
    data: PathText = PathText("tidelog-data".into()), text ("a path");
    /// Number of this broker in its cluster. Empty: as its data folder knows; at its first start the next that no broker of the cluster has, or 1 where it makes a cluster of its own.
    broker_id: OwnId = OwnId(None), text ("a number from 0 to 2147483647, or nothing");
    /// Where this broker stands: replicas are spread over racks, and consumers that name theirs read from the nearest replica. Empty: nowhere.
    rack: String = String::new(), text ("a name, or nothing");
    /// HOST:PORT that clients are told to connect to. Empty: the address that each client dialled.
    advertise: Advertise = Advertise(None), text ("HOST:PORT, or nothing");
    /// HOST:PORT of a broker whose cluster this one joins at its first start. Empty: it makes a cluster of its own, which others can join.
    join: Advertise = Advertise(None), text ("HOST:PORT, or nothing");
    /// Threads that serve the network. 0: one for each core.
    network_threads: u32 = 0, number ["a number" 0u64..=1024u64];
    /// Memory for requests that arrive or are under way, for what their batches decompress to, and for streams, over all connections. When it is used up, connections wait to be read.
    memory_budget_bytes: u64 = 256 << 20, number ["bytes" 1048576u64..=1099511627776u64];
    /// A producer that has not written to a partition for so long is forgotten there: what it was sending then must not be sent again.
    producer_id_expiration_ms: u64 = 7 * 86_400_000, number ["milliseconds" 900000u64..=31536000000u64];
    /// Connections open at once, as far as the limit of open files allows; further ones are told so and closed.
    connections_max: u32 = 10_000, number ["a number" 1u64..=1000000u64];
    /// Largest frame that a client may send.
    frame_bytes_max: u32 = 64 << 20, number ["bytes" 65536u64..=1073741824u64];
    /// Requests of one connection that may be unanswered at once; further ones are read later.
    requests_in_flight_max: u32 = 1_000, number ["a number" 1u64..=100000u64];
    /// Bytes of produce requests that may wait for one partition; further ones are refused as Overloaded.
    partition_queue_bytes_max: u64 = 64 << 20, number ["bytes" 65536u64..=17179869184u64];
    /// A new connection must have introduced itself by then.
    handshake_timeout_ms: u64 = 5_000, number ["milliseconds" 10u64..=600000u64];
    /// Once its first byte is there, a frame must be complete by then; a client that drips bytes is cut off.
    frame_timeout_ms: u64 = 30_000, number ["milliseconds" 10u64..=3600000u64];
    /// A connection without any traffic and without an open stream is closed after this time.
    idle_timeout_ms: u64 = 600_000, number ["milliseconds" 100u64..=86400000u64];
    /// A client that does not take its answers for this time is cut off.
    write_timeout_ms: u64 = 60_000, number ["milliseconds" 100u64..=3600000u64];
    /// On shutdown, requests under way may take this long.
    shutdown_timeout_ms: u64 = 10_000, number ["milliseconds" 0u64..=600000u64];
    /// Bytes a second that this broker sends to replicas that are not in sync, all together, besides twice what arrives here: new ones, and those that come back. A broker to which several send gets it from all of them together. 0: no limit.
    replica_catch_up_bytes_per_second: u64 = 64 << 20, number ["bytes" 0u64..=1099511627776u64];
    /// How often preferred replicas are given back the lead that they lost, where they are in sync again.
    preferred_leader_interval_ms: u64 = 30_000, number ["milliseconds" 100u64..=86400000u64];
    /// How often a broker of several notes in its data folder, and with the others, by what this folder is known: a copy that is older is told from it, and counts as empty.
    folder_stamp_interval_ms: u64 = 600_000, number ["milliseconds" 100u64..=86400000u64];
    /// Partitions of a topic that is created without saying how many.
    default_partitions: u32 = 1, number ["a number" 1u64..=10000u64];
    /// Replicas of each partition of a topic that is created without saying how many. 0: as many as there are live brokers, 3 at most.
    default_replication_factor: u16 = 0, number ["a number" 0u64..=32767u64];
    /// Whether a topic is made when a client that speaks Kafka's protocol asks where it lives and wants it made.
    kafka_auto_create_topics: Switch = Switch(true), text ("true or false");
    /// Below this much free space in the data folder's file system, produce is refused; it heals when space is freed.
    disk_free_min_bytes: u64 = 256 << 20, number ["bytes" 0u64..=1099511627776u64];
    /// A disk that takes longer than this for a write or a flush that somebody waits for hangs: the broker says so, and others lead what it led until it answers again. 0: it may take any time.
    disk_stall_ms: u64 = 10_000, number ["milliseconds" 0u64..=3600000u64];
    /// How often retention, free space and index upkeep are looked after.
    housekeeping_interval_ms: u64 = 5_000, number ["milliseconds" 10u64..=3600000u64];
    /// How fast what is settled is re-read in the background in search of rot. 0: never.
    scrub_bytes_per_second: u64 = 4 << 20, number ["bytes" 0u64..=1073741824u64];
    /// New records are re-read for the first time so long after they have settled, twice that at most where the rate allows; then with everything else, each hour.
    scrub_delay_ms: u64 = 60_000, number ["milliseconds" 10u64..=86400000u64];
    /// Memory for the keys that compaction looks at in one pass, whatever the number of partitions: about 28 bytes each. Where there are more, it takes several passes.
    compaction_memory_bytes: u64 = 128 << 20, number ["bytes" 65536u64..=1099511627776u64];
    /// How fast compaction reads and writes, all together. 0: no limit.
    compaction_bytes_per_second: u64 = 64 << 20, number ["bytes" 0u64..=1099511627776u64];
    /// Form of log lines: text or json.
    log_format: LogFormat = LogFormat::Text, text ("text or json");
    /// Which log lines are written: a level, or filters such as info,tidelog_broker=debug.
    log_level: String = "info".to_string(), text ("error, warn, info, debug, trace, or a list of target=level");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_sample_reads_back_to_the_same_config() {
        let mut config = Config::default();
        config.set("idle_timeout_ms", "5m").unwrap();
        config.set("data", "a \"b\"").unwrap();
        let table: toml::Table = config.to_annotated_toml().parse().unwrap();
        let mut again = Config::default();
        for (key, value) in &table {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            again.set(key, &text).unwrap();
        }
        assert_eq!(again, config);
        assert_eq!(table.len(), Config::KEYS.len());
    }

    #[test]
    fn the_checked_in_sample_is_what_print_config_says() {
        let sample = include_str!("../tidelog-broker.sample.toml");
        let printed = Config::default().to_annotated_toml();
        assert_eq!(sample, printed, "renew it: tidelog-broker --print-config > broker/tidelog-broker.sample.toml");
    }

    #[test]
    fn a_bad_value_names_key_value_and_range() {
        let mut config = Config::default();
        let error = config.set("connections_max", "0").unwrap_err().to_string();
        assert_eq!(error, "config key 'connections_max' cannot be '0': expected a number from 1 to 1000000");
        config.set("listen", "localhost:19503").unwrap();
        assert!(config.listen.ip().is_loopback() && config.listen.port() == 19503, "{}", config.listen);
        config = Config::default();
        assert!(config.set("listen", "nowhere").unwrap_err().to_string().contains("127.0.0.1:9092"));
        assert!(config.set("memory_budget_bytes", "99999999999999999999999").is_err());
        assert_eq!(config, Config::default());
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        let error = Config::default().set("conections_max", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean 'connections_max'?"), "{error}");
        let error = Config::default().set("foo", "1").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "a guess that far off misleads: {error}");
    }

    #[test]
    fn units_are_understood() {
        let mut config = Config::default();
        config.set("memory_budget_bytes", "64MiB").unwrap();
        assert_eq!(config.memory_budget_bytes, 64 << 20);
        assert!(config.set("memory_budget_bytes", "64s").is_err());
    }
}
