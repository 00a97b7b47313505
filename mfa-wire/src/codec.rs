//! Encodes gRPC messages, and wipes the keys in them afterwards.
//!
//! What is wiped is the message. The bytes on their way through HTTP/2 and TLS are freed as they
//! are: neither library offers more.

use core::fmt;
use core::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;
use zeroize::Zeroize as _;

use crate::{gateway, legacy};

/// A message that may hold secrets.
pub trait Wipe {
    /// Overwrites them. A message without secrets stays as it is.
    fn wipe(&mut self) {}
}

/// The codec of all our services.
pub struct WipingCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for WipingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> fmt::Debug for WipingCodec<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WipingCodec")
    }
}

impl<T, U> Codec for WipingCodec<T, U>
where
    T: Message + Wipe + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WipingEncoder<T>;
    type Decoder = PlainDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WipingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        PlainDecoder(ProstDecoder::default())
    }
}

/// Encodes a message and wipes it.
pub struct WipingEncoder<T>(PhantomData<T>);

impl<T> fmt::Debug for WipingEncoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WipingEncoder")
    }
}

impl<T: Message + Wipe> Encoder for WipingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, mut item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = item.encode(buf);
        item.wipe();
        // The buffer grows, so this is never seen.
        encoded.map_err(|_| Status::internal("a message does not fit its buffer"))
    }
}

/// Decodes a message. Whoever takes the keys out of it wipes them.
#[derive(Debug)]
pub struct PlainDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for PlainDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(buf)
    }
}

impl Wipe for () {}
impl Wipe for gateway::EnrollResponse {}
impl Wipe for gateway::RenewRequest {}
impl Wipe for gateway::RenewResponse {}
impl Wipe for gateway::FromGateway {}
impl Wipe for legacy::ConfigurationRequest {}
impl Wipe for legacy::StatsUpdate {}

impl Wipe for gateway::EnrollRequest {
    fn wipe(&mut self) {
        self.token.zeroize();
    }
}

impl Wipe for gateway::ToGateway {
    fn wipe(&mut self) {
        use gateway::to_gateway::Message;
        match &mut self.message {
            Some(Message::Snapshot(snapshot)) => {
                snapshot.interface.iter_mut().for_each(Wipe::wipe);
                snapshot.peers.iter_mut().for_each(Wipe::wipe);
            }
            Some(Message::Change(change)) => change.peers.iter_mut().for_each(Wipe::wipe),
            Some(Message::Heartbeat(_)) | None => {}
        }
    }
}

impl Wipe for gateway::InterfaceConfig {
    fn wipe(&mut self) {
        self.private_key.zeroize();
    }
}

impl Wipe for gateway::Peer {
    fn wipe(&mut self) {
        self.preshared_key.zeroize();
    }
}

impl Wipe for legacy::Configuration {
    fn wipe(&mut self) {
        self.prvkey.zeroize();
        self.peers.iter_mut().for_each(Wipe::wipe);
    }
}

impl Wipe for legacy::Update {
    fn wipe(&mut self) {
        use legacy::update::Update;
        match &mut self.update {
            Some(Update::Peer(peer)) => peer.wipe(),
            Some(Update::Network(configuration)) => configuration.wipe(),
            Some(Update::DisableFirewall(())) | None => {}
        }
    }
}

impl Wipe for legacy::Peer {
    fn wipe(&mut self) {
        self.preshared_key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_left_in_a_message() {
        let peer = || gateway::Peer {
            preshared_key: Some(vec![0x5a; 32]),
            session_id: 7,
            ..gateway::Peer::default()
        };
        let interface =
            gateway::InterfaceConfig { private_key: vec![0x5a; 32], ..Default::default() };
        let snapshot = gateway::Snapshot {
            interface: Some(interface),
            peers: vec![peer()],
            ..gateway::Snapshot::default()
        };
        let change = gateway::Change { peers: vec![peer()], ..gateway::Change::default() };
        for message in [
            gateway::to_gateway::Message::Snapshot(snapshot),
            gateway::to_gateway::Message::Change(change),
        ] {
            let mut message = gateway::ToGateway { message: Some(message) };
            message.wipe();
            let left = message.encode_to_vec();
            assert!(!left.contains(&0x5a), "{left:?}");
        }

        let peer = || legacy::Peer { preshared_key: Some("ZZZZ".into()), ..Default::default() };
        let network = legacy::Configuration {
            prvkey: "ZZZZ".into(),
            peers: vec![peer()],
            ..legacy::Configuration::default()
        };
        for update in
            [legacy::update::Update::Peer(peer()), legacy::update::Update::Network(network)]
        {
            let mut message = legacy::Update { update: Some(update), ..Default::default() };
            message.wipe();
            assert!(!message.encode_to_vec().contains(&b'Z'));
        }
    }
}
