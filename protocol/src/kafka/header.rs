//! What stands in front of a request and of an answer, and the length in front of both. Knows nothing of what follows.

use bytes::{BufMut, Bytes};

use super::api::{ApiKey, Request};
use super::codec::{DecodeError, Field, Layout, Reader, Writer};
use super::message::Message;

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// The least that a request has behind its length: API, version, correlation id.
pub const LEAST_BYTES: usize = 8;

/// The front of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// The number of the API.
    pub api_key: i16,
    /// Its version.
    pub api_version: i16,
    /// What the answer is known by.
    pub correlation_id: i32,
    /// The client's name for itself; not read of a version that is not served.
    pub client_id: Option<String>,
}

const FIXED: Layout = Layout { version: 0, flexible: false, nullable: true };

impl RequestHeader {
    /// The API, where this version of it is served.
    #[must_use]
    pub fn served(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key).filter(|api| api.versions().contains(&self.api_version))
    }

    /// Reads the header of a request; of one that is not served, no more than what never changes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.enter("request header");
        let (api_key, api_version) = (i16::read(input, FIXED)?, i16::read(input, FIXED)?);
        let correlation_id = i32::read(input, FIXED)?;
        let mut header = Self { api_key, api_version, correlation_id, client_id: None };
        if let Some(api) = header.served() {
            header.client_id = Option::<String>::read(input, FIXED)?;
            if api.is_flexible(api_version) {
                input.tagged(|_, _| Ok(()))?;
            }
        }
        Ok(header)
    }
}

/// A request, as a client sends it, its length in front.
#[must_use]
pub fn request_frame<R: Request>(request: &R, version: i16, correlation_id: i32, client_id: Option<&str>) -> Bytes {
    let mut out = Writer::default();
    (R::API as i16).write(&mut out, FIXED);
    version.write(&mut out, FIXED);
    correlation_id.write(&mut out, FIXED);
    client_id.map(str::to_owned).write(&mut out, FIXED);
    let flexible = R::API.is_flexible(version);
    if flexible {
        out.space().put_u8(0);
    }
    request.encode(&mut out, version, flexible);
    with_length(out).concat().into()
}

/// An answer, its length in front; large bytes in it are shared.
#[must_use]
pub fn frame_of<M: Message>(api: ApiKey, version: i16, correlation_id: i32, answer: &M) -> Vec<Bytes> {
    let mut out = Writer::default();
    correlation_id.write(&mut out, FIXED);
    if api.is_answer_header_flexible(version) {
        out.space().put_u8(0);
    }
    answer.encode(&mut out, version, api.is_flexible(version));
    with_length(out)
}

/// Reads an answer whose length was taken off; gives its correlation id, too.
///
/// # Errors
/// [`DecodeError`].
pub fn read_answer<R: Request>(frame: &Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let mut input = Reader::new(frame);
    let correlation_id = i32::read(&mut input, FIXED)?;
    if R::API.is_answer_header_flexible(version) {
        input.tagged(|_, _| Ok(()))?;
    }
    Ok((correlation_id, R::Response::decode(&mut input, version, R::API.is_flexible(version))?))
}

fn with_length(out: Writer) -> Vec<Bytes> {
    let length = out.bytes() as u32;
    let mut parts = out.finish();
    parts.insert(0, Bytes::copy_from_slice(&length.to_be_bytes()));
    parts
}
