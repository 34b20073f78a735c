//! A service that nobody asks: it reacts to what others tell. What it does, what it tells of that, and that it has seen the event are one transaction. Knows nothing
//! of sagas.

use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use tidelog_client::inbox::{self, InboxError, Once};
use tidelog_client::sql::{DatabaseError, Dialect};
use tidelog_client::{Client, ClientError, ConsumeError, ConsumerRecord, GroupError, Start};

use super::books::Books;
use super::demo::Failure;
use super::ledger;
use super::services::Reaction;
use super::style::Safety;
use super::told::{Told, topic};

/// How long the partitions of a process that was killed wait for it, before its next life gets them.
const SESSION: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// The service.
pub struct Listener {
    pub books: Books,
    pub inbox: Safety,
}

impl Listener {
    /// Reacts until it is killed.
    pub async fn run(&self, client: &Client, shop: &str) -> Result<(), Failure> {
        loop {
            match self.listen(client, shop).await {
                Err(Trouble::Group(error)) if is_passing(&error) => eprintln!("{error}"),
                Err(Trouble::Group(error)) => return Err(error.into()),
                Err(Trouble::Final(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn listen(&self, client: &Client, shop: &str) -> Result<(), Trouble> {
        let service = self.books.service;
        let group = client.group(topic(shop, service)).topics(service.sources().map(|from| topic(shop, from)));
        let group = group.session_timeout(SESSION).start(Start::Beginning);
        let mut events = group.build().await.map_err(Trouble::Group)?;
        while let Some(record) = events.next().await {
            match record {
                Ok(record) => self.heed(record).await.map_err(Trouble::Final)?,
                Err(error @ (GroupError::Fenced { .. } | GroupError::NotOwned { .. })) => eprintln!("{error}"),
                Err(error) => return Err(Trouble::Group(error)),
            }
        }
        Err(Trouble::Group(GroupError::Left))
    }

    /// Tries until the database has it.
    async fn heed(&self, record: &ConsumerRecord) -> Result<(), Failure> {
        let told = Told::of(record)?;
        let Some(reaction) = self.books.service.reaction(told.from, told.kind) else { return Ok(()) };
        while let Err(error) = self.react(record, &told, reaction).await {
            if !error.is_retriable() {
                return Err(error.into());
            }
            eprintln!("{error}");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn react(&self, record: &ConsumerRecord, told: &Told<'_>, reaction: Reaction) -> Result<(), DatabaseError> {
        let mut transaction = Sqlite::begin(&self.books.pool).await?;
        match self.inbox {
            Safety::Off => self.effect(&mut transaction, told, reaction).await?,
            Safety::On => {
                let effect =
                    async |transaction: &mut Transaction<'_, Sqlite>| self.effect(transaction, told, reaction).await;
                match inbox::once(&mut transaction, record, effect).await {
                    Ok(Once::Now(()) | Once::Before) => {}
                    Err(InboxError::Effect(error) | InboxError::Database(error)) => return Err(error),
                }
            }
        }
        Ok(transaction.commit().await?)
    }

    async fn effect(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        told: &Told<'_>,
        reaction: Reaction,
    ) -> Result<(), DatabaseError> {
        match reaction {
            Reaction::Act => self.books.act(transaction, told.id, &told.order).await.map(drop),
            Reaction::Compensate => self.books.compensate(transaction, told.id, &told.order).await,
            Reaction::Complete => ledger::complete(transaction, told.id).await,
        }
    }
}

/// Why a service does not listen any more.
enum Trouble {
    Group(GroupError),
    Final(Failure),
}

/// Whether a member that joins anew may go on.
fn is_passing(error: &GroupError) -> bool {
    match error {
        GroupError::Left => true,
        GroupError::Client(error) | GroupError::Consume(ConsumeError::Client(error)) => {
            ClientError::is_retriable(error)
        }
        _ => false,
    }
}
