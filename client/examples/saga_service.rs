//! Books trips: a flight and a room, side by side, and then a guide; all of it or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_client::Client;
use tidelog_client::event_store::{Aggregate, BoxError, ExecuteError, NewEvent, Repository};
use tidelog_client::saga::{Call, Definition, Sagas, Step, StepError};

/// Two places, of whatever it is. Each booking has a key, and a key that was given back is never booked again.
#[derive(Clone, Default)]
pub struct Places {
    /// Keys of the bookings.
    pub booked: BTreeSet<String>,
    given_back: BTreeSet<String>,
}

impl Aggregate for Places {
    type Event = (bool, String);
    type Refusal = &'static str;

    fn apply(&mut self, (is_booked, key): &Self::Event) {
        if *is_booked {
            self.booked.insert(key.clone());
        } else {
            self.booked.remove(key);
            self.given_back.insert(key.clone());
        }
    }

    fn encode((is_booked, key): &Self::Event) -> NewEvent {
        NewEvent::new(if *is_booked { "booked" } else { "given-back" }, key.clone())
    }

    fn decode(kind: &str, key: &[u8]) -> Result<Self::Event, BoxError> {
        Ok((kind == "booked", String::from_utf8(key.to_vec())?))
    }
}

async fn book(places: Repository<Places>, call: Call<String>) -> Result<String, StepError> {
    let key = call.key().to_owned();
    let decide = move |places: &Places| match places.booked.len() {
        _ if places.booked.contains(&key) => Ok(Vec::new()),
        _ if places.given_back.contains(&key) => Err("it was given back before it was booked"),
        0..2 => Ok(vec![(true, key.clone())]),
        _ => Err("all places are taken"),
    };
    match places.execute(call.step(), decide).await {
        Ok(_) => Ok(format!("booked for {}", call.input())),
        Err(ExecuteError::Refused(why)) => Err(StepError::refused(why)),
        Err(error) => Err(error.into()),
    }
}

async fn give_back(places: Repository<Places>, call: Call<String>) -> Result<(), StepError> {
    let key = call.action_key().to_owned();
    // Also where it was not booked: that may be still to come.
    let decide = move |places: &Places| {
        Ok(if places.given_back.contains(&key) { Vec::new() } else { vec![(false, key.clone())] })
    };
    Ok(places.execute(call.step(), decide).await.map(drop)?)
}

/// What is there, the sagas, and what one of them does.
pub async fn open(server: &str) -> Result<(Repository<Places>, Sagas, Definition<String>), BoxError> {
    let client = Client::connect(server).await?;
    let places = client.event_store("places").create(3, None).await?.repository::<Places>();
    let sagas = Sagas::of(client.event_store("trips").create(3, None).await?);
    let step = |name: &str| {
        let (to_book, to_give_back) = (places.clone(), places.clone());
        Step::new(name, move |call| book(to_book.clone(), call))
            .compensation(move |call| give_back(to_give_back.clone(), call))
            .timeout(Duration::from_secs(5))
    };
    let trip = Definition::named("trip").parallel([step("flight"), step("room")]).step(step("guide"));
    let trip = trip.deadline(Duration::from_secs(60)).build()?;
    Ok((places, sagas, trip))
}

#[tokio::main]
#[allow(dead_code, reason = "a test calls the functions")]
async fn main() -> Result<(), BoxError> {
    let (_, sagas, trip) = open("127.0.0.1:9092").await?;
    sagas.start(&trip, "trip-of-mia", &"Mia".into()).await?;
    let ended = async { println!("{:?}", sagas.wait("trip-of-mia", Duration::from_secs(60)).await) };
    Ok(sagas.worker().drives(&trip).run(ended).await?)
}
