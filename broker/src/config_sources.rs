//! Where configuration comes from: defaults, then the config file, then `TIDELOG_*` in the environment, then flags; later ones
//! win. Knows nothing of what the keys mean.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};

/// Why no configuration came together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigSourceError {
    /// The file cannot be read.
    #[error("cannot read the config file {}: {error}; name a file that this process may read with --config or TIDELOG_CONFIG, or leave it out", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not text.
    #[error("the config file {} is not UTF-8, from byte {valid} on: save it as UTF-8, or name another with --config or TIDELOG_CONFIG", path.display())]
    Encoding {
        /// Which.
        path: PathBuf,
        /// So many bytes before are.
        valid: usize,
    },
    /// The file is not TOML.
    #[error("the config file {} is not valid TOML: {error}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// A key or value cannot be taken.
    #[error("{source_name}: {error}")]
    Key {
        /// Where it was set.
        source_name: String,
        /// What is wrong.
        error: ConfigError,
    },
}

/// Prefix of the environment variables.
pub const ENVIRONMENT_PREFIX: &str = "TIDELOG_";
/// Variables of that prefix that belong to the client tools.
const NOT_OURS: &[&str] = &["TIDELOG_SERVER", "TIDELOG_CONFIG", "TIDELOG_OUTPUT"];

/// Layers the sources. `flags` are (key, value) pairs, already named like the keys.
///
/// # Errors
/// [`ConfigSourceError`] says which source is at fault, and how.
pub fn layered(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Config, ConfigSourceError> {
    let mut config = Config::default();
    if let Some(path) = file {
        let bytes = std::fs::read(path).map_err(|error| ConfigSourceError::File { path: path.into(), error })?;
        let text = String::from_utf8(bytes).map_err(|error| ConfigSourceError::Encoding {
            path: path.into(),
            valid: error.utf8_error().valid_up_to(),
        })?;
        let table: toml::Table =
            text.parse().map_err(|error| ConfigSourceError::Toml { path: path.into(), error: Box::new(error) })?;
        for (key, value) in &table {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            set(&mut config, key, &text, || format!("config file {}", path.display()))?;
        }
    }
    for (name, value) in environment {
        if let Some(key) = name.strip_prefix(ENVIRONMENT_PREFIX)
            && !NOT_OURS.contains(&name.as_str())
        {
            set(&mut config, &key.to_ascii_lowercase(), &value, || format!("environment variable {name}"))?;
        }
    }
    for (key, value) in flags {
        set(&mut config, key, value, || format!("flag for {key}"))?;
    }
    Ok(config)
}

fn set(config: &mut Config, key: &str, value: &str, source: impl Fn() -> String) -> Result<(), ConfigSourceError> {
    config.set(key, value).map_err(|error| ConfigSourceError::Key { source_name: source(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OwnId;

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidelog.toml");
        std::fs::write(&file, "connections_max = 10\nbroker_id = 7\nidle_timeout_ms = \"2m\"\n").unwrap();
        let env = environment(&[("TIDELOG_CONNECTIONS_MAX", "20"), ("HOME", "x"), ("TIDELOG_SERVER", "y")]);
        let config = layered(Some(&file), env, &[("broker_id".into(), "9".into())]).unwrap();
        assert_eq!((config.connections_max, config.broker_id, config.idle_timeout_ms), (20, OwnId(Some(9)), 120_000));
    }

    #[test]
    fn the_source_at_fault_is_named() {
        let error = layered(None, environment(&[("TIDELOG_LISTEN", "x")]), &[]).unwrap_err().to_string();
        assert!(error.starts_with("environment variable TIDELOG_LISTEN: config key 'listen' cannot be 'x'"), "{error}");
        let error = layered(None, environment(&[]), &[("listen".into(), "y".into())]).unwrap_err().to_string();
        assert!(error.starts_with("flag for listen: config key 'listen'"), "{error}");
        let error = layered(Some(Path::new("/no/such/file")), environment(&[]), &[]).unwrap_err().to_string();
        assert!(error.contains("/no/such/file") && error.contains("or leave it out"), "{error}");
    }

    #[test]
    fn a_file_in_another_encoding_is_told_from_one_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("latin1.toml");
        std::fs::write(&file, b"# caf\xe9\n").unwrap();
        let error = layered(Some(&file), environment(&[]), &[]).unwrap_err().to_string();
        assert!(error.contains("latin1.toml") && error.contains("not UTF-8, from byte 5 on"), "{error}");
    }
}
