//! Credit: lets a stream push more.

use tidelog_protocol::Message;
use tidelog_protocol::messages::CreditSignal;

use super::Input;
use crate::session::Session;

pub(super) fn handle(session: &Session, input: &Input) -> Result<(), String> {
    let signal = CreditSignal::from_body(&input.body, session.version)
        .map_err(|error| format!("{} does not parse: {error}", CreditSignal::NAME))?;
    // Credit for a stream that has just ended crosses its end on the way.
    if let Some(stream) = session.streams.find(signal.stream) {
        stream.refill(signal.bytes);
    }
    Ok(())
}
