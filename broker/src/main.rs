//! The `tidelog-broker` binary: flags, signals, exit codes. Everything else is in the library.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tidelog_broker::config_sources::layered;
use tidelog_broker::dev_cluster::{self, DevClusterError, DevClusterOptions};
use tidelog_broker::{Broker, Config, logging, process};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Descriptors without which a broker is of no use.
const FILES_MIN: u64 = 256;

/// A Tidelog broker: a partitioned, durable log that listens on one port.
///
/// Without arguments it listens on 127.0.0.1:9092 and keeps its data in ./tidelog-data.
/// Every setting is a key: in the config file, as TIDELOG_<KEY> in the environment, or here; later ones win.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 stopped on request, 1 failed while running or starting, 2 wrong usage or configuration."
)]
struct Flags {
    /// Address of the port that clients connect to [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address of the admin HTTP port [default: 127.0.0.1:9640]
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Folder that holds everything the broker keeps [default: ./tidelog-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Broker whose cluster this one joins at its first start, under the next number that is free, or a --set broker_id
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// Config file (TOML); --print-config shows every key
    #[arg(long, value_name = "FILE", env = "TIDELOG_CONFIG")]
    config: Option<PathBuf>,
    /// Sets any key, such as --set connections_max=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Runs N brokers on this machine, as processes of their own, for trying things out: ports count up from --listen and
    /// --admin-listen, the folders broker-1, broker-2, … lie in --data, and one that is killed is started again
    #[arg(long, value_name = "N", conflicts_with_all = ["join", "print_config"])]
    dev_cluster: Option<u32>,
    /// Ends when this process does, which started it
    #[arg(long, value_name = "PID", hide = true)]
    ends_with: Option<u32>,
    /// Prints the configuration that would hold, annotated, and exits
    #[arg(long)]
    print_config: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().into(), value.trim().into()))
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(parent) = flags.ends_with
        && let Err(error) = dev_cluster::end_with(parent)
    {
        complain(&error);
        return ExitCode::FAILURE;
    }
    let for_each = passed_on(&flags);
    let named =
        [("listen", flags.listen), ("admin_listen", flags.admin_listen), ("data", flags.data), ("join", flags.join)];
    let mut settings: Vec<(String, String)> = flags.set;
    settings.extend(named.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_string(), value))));
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = match layered(flags.config.as_deref(), environment, &settings) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    if flags.print_config {
        return print_config(&config);
    }
    if let Some(brokers) = flags.dev_cluster {
        return run_cluster(DevClusterOptions { brokers, config, arguments: for_each });
    }
    if let Err(error) = logging::start(&config) {
        complain(&error);
        return ExitCode::from(2);
    }
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whoever read standard error may be gone, which is no reason to end otherwise.
fn complain(error: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "tidelog-broker: {error}");
}

fn print_config(config: &Config) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(config.to_annotated_toml().as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("cannot print the configuration: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What every broker of a cluster is given; its own ports and folder follow, and win.
fn passed_on(flags: &Flags) -> Vec<OsString> {
    let config = flags.config.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]);
    let set = flags.set.iter().flat_map(|(key, value)| ["--set".into(), format!("{key}={value}").into()]);
    config.chain(set).collect()
}

fn run_cluster(options: DevClusterOptions) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from);
    let result = result.and_then(|runtime| {
        let stop = CancellationToken::new();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let stopping = stop.clone();
            tokio::task::spawn_local(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stopping.cancel();
            });
            Ok(dev_cluster::run(options, stop).await?)
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            let is_usage = matches!(error.downcast_ref(), Some(DevClusterError::Usage(_)));
            if is_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Signals this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

fn run(config: Config) -> anyhow::Result<()> {
    let files = process::raise_file_limit()?;
    if files < FILES_MIN {
        anyhow::bail!(
            "this process may open {files} files only, it needs {FILES_MIN} at least: raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.network_threads > 0 {
        builder.worker_threads(config.network_threads as usize);
    }
    let runtime = builder.enable_all().thread_name("tidelog-net").build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let broker = tokio::select! {
            started = Broker::start(config) => started?,
            // It may wait for other brokers; nothing is served yet that would have to be finished.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let excluded = tokio::select! {
            _ = terminate.recv() => { tracing::info!("SIGTERM: shutting down"); None }
            _ = interrupt.recv() => { tracing::info!("SIGINT: shutting down"); None }
            refusal = broker.excluded() => Some(refusal),
            // Dropped as it stands: nobody knows what a broker that broke down would note at a clean end.
            broken = broker.broke_down() => return Err(broken.into()),
        };
        // Some programs signal the process and its group: what comes with the first signal is the first signal.
        let again = async {
            tokio::time::sleep(SAME_SIGNAL).await;
            (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            anyhow::bail!("a second signal: left without a clean shutdown; recovery runs at the next start")
        };
        tokio::select! {
            closed = broker.shutdown() => excluded.map_or_else(|| Ok(closed?), |refusal| Err(refusal.into())),
            left = again => left,
        }
    })
}
