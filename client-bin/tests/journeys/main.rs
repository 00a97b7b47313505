//! The client's journeys in process: a server that follows a script, a model of the kernel, and for
//! trust a real TLS server.

#[cfg(test)]
mod connect;
#[cfg(test)]
mod enroll;
#[cfg(test)]
mod program;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod ui;
