-- What a contact wants of a category on a channel, in its own words: by a one-click link today.
create table preference (
    contact_id uuid not null,
    category text not null,
    channel text not null,
    wanted boolean not null,
    event_id uuid not null,
    changed_at timestamptz not null,
    primary key (contact_id, category, channel)
);
