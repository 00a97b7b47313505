//! All locations, beside one another.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use mfa_store::{Scope, StoreError};
use serde::Deserialize;

use super::fault::Fault;
use super::page::Frame;
use super::people::methods;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Table, encoded, segment};
use crate::app::App;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    done: String,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let rows = app
        .store
        .read(|view| {
            let gateways = view.gateways()?;
            let mut rows = Vec::new();
            for one in view.locations()? {
                let (settings, policy) = (&one.settings, one.settings.policy);
                let groups = view.groups_of_location(one.id)?;
                let here = gateways.iter().filter(|gateway| gateway.location == one.id).count();
                rows.push(vec![
                    Cell::link(
                        format!("/overview?location={}", encoded(&settings.name)),
                        &settings.name,
                    ),
                    if one.asks_mfa() {
                        Cell::Badge("good", "required".to_owned())
                    } else {
                        Cell::Badge("note", "not required".to_owned())
                    },
                    Cell::Text(if one.asks_mfa() {
                        methods(policy.methods())
                    } else {
                        String::new()
                    }),
                    Cell::time(format!("{} s", policy.idle().threshold().as_secs())),
                    Cell::Text(settings.endpoint.clone()),
                    Cell::Text(
                        settings
                            .addresses
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .join(", "),
                    ),
                    Cell::Text(if groups.is_empty() {
                        "everyone".to_owned()
                    } else {
                        groups.join(", ")
                    }),
                    Cell::text(here),
                    Cell::text(view.live_count(Scope::Location(one.id))?),
                    Cell::link(format!("/locations/{}/edit", segment(&settings.name)), "Edit"),
                ]);
            }
            Ok::<_, StoreError>(rows)
        })
        .await?;
    let blocks = vec![
        Block::Links(vec![
            ("/locations/new".to_owned(), "Add a location"),
            ("/locations/import".to_owned(), "Import a wg-quick configuration"),
        ]),
        Block::Table(Table {
            headings: vec![
                "Location",
                "Second factor",
                "Methods",
                "Threshold",
                "Endpoint",
                "Tunnel networks",
                "For",
                "Gateways",
                "Connected",
                "",
            ],
            rows,
            empty: "There is no location yet. Add one, or import the configuration of a WireGuard \
                    server that runs already.",
            ..Table::default()
        }),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "locations", &asked.done), "Locations", blocks))
}
