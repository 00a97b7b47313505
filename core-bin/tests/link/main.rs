//! Gateways against a real listener: TLS, certificates, streams and a database, in one process.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod converge;
mod cores;
#[cfg(test)]
mod enroll;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod twins;
