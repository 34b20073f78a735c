//! A teller sends money from account to account, as much as is there at times, and writes down what it was told is done. It may be killed
//! at any moment: what it had under way is then done or not, never half.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tidelog_client::event_store::{Aggregate, AppendError, EventStore, Expected, StoreError, Version};

use super::ACCOUNTS;
use super::account::{Account, Moved, name};
use super::demo::Failure;
use super::demo::arguments::Arguments;
use super::demo::cast::begin_life;

struct Teller {
    store: EventStore,
    /// The safety that the demo is about is switched off: it decides on what it knows and appends whatever the version is by then.
    without_version: bool,
}

/// Works until it is killed.
pub async fn run(store: EventStore, mut arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.required("--folder")?;
    let (folder, own) = (Path::new(&folder), arguments.required("--name")?);
    // Each life has transfers of its own, as it does not know what the one before it had under way.
    let life = begin_life(&folder.join(format!("{own}.lives")))?;
    let mut chance = fastrand::Rng::with_seed(arguments.seed()?.wrapping_mul(1_000).wrapping_add(life));
    let mut told = File::options().create(true).append(true).open(folder.join(format!("{own}.told")))?;
    let teller = Teller { store, without_version: arguments.switch("--without-version") };
    for at in 0.. {
        let transfer = format!("{own}-{life}-{at}");
        let (from, to) = (chance.usize(..ACCOUNTS), chance.usize(..ACCOUNTS - 1));
        let to = if to < from { to } else { to + 1 };
        if teller.send(&transfer, &name(from), &name(to), chance.i64(1..=4)).await? {
            // One write, so that a line is there or not.
            told.write_all(format!("{transfer}\n").as_bytes())?;
        }
    }
    Ok(())
}

impl Teller {
    /// Sends a quarter of what is there, or two, three, all of them; false where nothing is.
    async fn send(&self, transfer: &str, from: &str, to: &str, quarters: i64) -> Result<bool, Failure> {
        // Events are not asked for twice. A repository would do all this; here the version is to be seen.
        let (mut version, mut account) = (Version::NONE, Account::default());
        loop {
            let loaded = match self.store.load_after(from, version).await {
                Ok(loaded) => loaded,
                Err(error) if error.is_retriable() => {
                    rest(&error).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in &loaded.events {
                account.apply(&Account::decode(&event.kind, &event.payload)?);
            }
            version = loaded.version;
            let cents = account.cents * quarters / 4;
            if cents <= 0 {
                return Ok(false);
            }
            let sent = Account::encode(&Moved::Sent { transfer: transfer.into(), to: to.into(), cents });
            let expected = if self.without_version { Expected::Any } else { Expected::Version(version) };
            match self.store.append_once(from, transfer, expected, vec![sent]).await {
                Ok(_) => return Ok(true),
                // Somebody was faster: decide again. In doubt: ask again under the same name.
                Err(AppendError::Conflict { .. } | AppendError::InDoubt(_)) => {}
                Err(AppendError::Store(error)) if error.is_retriable() => rest(&error).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn rest(error: &StoreError) {
    eprintln!("{error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
