//! Gateways: who they are, and how one joins.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::token::Token;
use mfa_store::{Snapshot, StoreError};
use serde::Deserialize;

use super::fault::Fault;
use super::gateway::Standing;
use super::login::sentence;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Field, Form as Fields, Table};
use crate::app::App;
use crate::flows::gateway::{self as flow, GatewayError};
use crate::text::{count, utc};
use crate::view::Delays;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    location: String,
    done: String,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &admin, &asked.location, &asked.done, Vec::new()).await
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    chosen: &str,
    done: &str,
    first: Vec<Block>,
) -> Result<Response, Fault> {
    let read = |view: &mut Snapshot| {
        Ok::<_, StoreError>((view.gateways()?, view.locations()?, view.end_delays()?))
    };
    let (gateways, locations, delays) = app.store.read(read).await?;
    let now = app.clock.now();
    let rows = gateways
        .iter()
        .map(|one| {
            let location = locations.iter().find(|location| location.id == one.location);
            let name = location.map_or("", |location| location.settings.name.as_str());
            let revision = location.map_or(0, |location| location.revision);
            let standing = Standing::of(one, revision, &app.registry.list(one.location), now);
            vec![
                Cell::link(format!("/gateways/{}", ui::segment(&one.name)), &one.name),
                Cell::link(format!("/overview?location={}", ui::encoded(name)), name),
                Cell::Badge(standing.class, standing.state.to_owned()),
                Cell::Time(standing.heard),
                Cell::Time(standing.revision),
                Cell::Time(standing.lease),
                Cell::text(&one.backend),
                Cell::text(&one.version),
                Cell::text(&one.hostname),
                Cell::Post {
                    action: "/gateways/remove".to_owned(),
                    fields: vec![("name", one.name.clone())],
                    label: "Remove",
                    about: one.name.clone(),
                    danger: true,
                },
            ]
        })
        .collect();
    let headings = vec![
        "Gateway",
        "Location",
        "State",
        "Last heard",
        "Revision",
        "Lease",
        "WireGuard",
        "Version",
        "Host",
        "",
    ];
    let mut blocks = first;
    blocks.push(Block::Table(Table {
        title: "",
        headings,
        rows,
        empty: "There is no gateway yet. A token, issued below, makes a host one.",
        ..Table::default()
    }));
    if let Delays {
        count,
        p50_millis: Some(half),
        p99_millis: Some(most),
        longest_millis: Some(longest),
    } = Delays::of(&delays)
    {
        blocks.push(Block::Text(format!(
            "When a session ends, its peer leaves the kernel of each gateway: of {count} such ends \
             half were verified within {half} ms, 99 % within {most} ms, the last after {longest} \
             ms. A session's page has the steps."
        )));
    }
    if locations.is_empty() {
        blocks.push(Block::Text("A gateway serves a location, and there is none yet.".to_owned()));
        blocks.push(Block::Links(vec![("/locations/new".to_owned(), "Add a location")]));
        return Ok(ui::show(Frame::new(app, &admin.0, "gateways", done), "Gateways", blocks));
    }
    let names = locations.into_iter().map(|location| location.settings.name).collect();
    blocks.push(Block::Form(Fields {
        title: "Add a gateway, or enroll one anew",
        hint: "The token is good once, for 15 minutes.".to_owned(),
        action: "/gateways".to_owned(),
        fields: vec![
            Field::choice("location", "Location", names, chosen),
            Field::text("name", "Name", "").required(),
            Field::check(
                "legacy",
                "A gateway of another make, which has no certificate: its token is good until it \
                 is replaced"
                    .to_owned(),
                false,
            ),
        ],
        button: "Issue a token",
        ..Fields::default()
    }));
    Ok(ui::show(Frame::new(app, &admin.0, "gateways", done), "Gateways", blocks))
}

#[derive(Deserialize)]
pub(super) struct Order {
    #[serde(default)]
    location: String,
    name: String,
    #[serde(default)]
    legacy: String,
    #[serde(default)]
    sure: String,
}

pub(super) async fn token(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Order { location, name, legacy, .. }): Form<Order>,
) -> Result<Response, Fault> {
    let by = admin.by(&app);
    let token = Token::from_random(*app.rng.bytes());
    let digest = token.digest();
    let place = location.clone();
    if !legacy.is_empty() {
        let issued =
            app.store.write(move |tx| flow::legacy_token(tx, by, (&place, &name), digest)).await;
        let gateway = issued.map_err(refused)?;
        app.registry.wake_all();
        let words = format!(
            "Set this in the configuration of {}, with a copy of core's ca.pem, and start it \
             again. The token is shown only now.",
            gateway.name
        );
        let text = format!(
            "core's URL  {}\ntoken       {}",
            app.addresses.gateways,
            token.expose_text().as_str()
        );
        let first = vec![
            Block::Notice("good", words),
            Block::Copy { label: "Settings of the gateway", text },
        ];
        return page(&app, &admin, &location, "", first).await;
    }
    let issued = app
        .store
        .write(move |tx| flow::token(tx, by, (&place, &name), digest, flow::TOKEN_LIFE))
        .await;
    let (gateway, expires) = issued.map_err(refused)?;
    let command = format!(
        "gateway-bin enroll --core {} --token {} --ca-pin {}\ngateway-bin run",
        app.addresses.gateways,
        token.expose_text().as_str(),
        app.addresses.pin,
    );
    let words = format!("On the host of {}, until {}:", gateway.name, utc(expires));
    let first = vec![
        Block::Notice("good", words),
        Block::Copy { label: "Commands on the gateway's host", text: command },
    ];
    page(&app, &admin, &location, "", first).await
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Order { name, sure, .. }): Form<Order>,
) -> Result<Response, Fault> {
    let by = admin.by(&app);
    if sure.is_empty() {
        let which = name.clone();
        let found = app.store.read(move |view| {
            let gateway = flow::find(view, &which)?;
            let all = view.gateways()?;
            let others = all.iter().filter(|one| one.location == gateway.location).count();
            let place = view.location(gateway.location)?;
            let place = place.map_or_else(String::new, |place| place.settings.name);
            Ok::<_, GatewayError>((place, others.saturating_sub(1)))
        });
        let (place, others) = found.await.map_err(refused)?;
        let rest = if others == 0 {
            format!("No other serves {place}: nobody can connect there until one does.")
        } else {
            format!("{} of {place} go on.", count(others, "other gateway"))
        };
        let words = format!(
            "The gateway {name} will be shut out at once, and its tunnels stop. {rest} To come \
             back it has to be enrolled anew."
        );
        let frame = Frame::new(&app, &admin.0, "gateways", "");
        let ways = ("Remove the gateway", "/gateways".to_owned());
        let hidden = vec![("name", name)];
        return Ok(ui::ask(frame, "Remove a gateway", words, "/gateways/remove", hidden, ways));
    }
    app.store.write(move |tx| flow::remove(tx, by, &name)).await.map_err(refused)?;
    app.registry.wake_all();
    Ok(Redirect::to("/gateways?done=removed").into_response())
}

pub(super) fn refused(error: GatewayError) -> Fault {
    match error {
        GatewayError::Store(error) => error.into(),
        GatewayError::NotFound(name) => {
            Fault::words(StatusCode::NOT_FOUND, format_args!("There is no gateway {name}."))
        }
        error => Fault::bad(sentence(&error)),
    }
}
