-- The application's role creates and drops nothing by itself: what keeps the day partitions runs as
-- their owner, looks nothing up outside the catalogue, and can touch no other table.
create or replace function rapport.ensure_partitions(days_ahead integer) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    day date;
    parent text;
begin
    if days_ahead not between 0 and 31 then
        raise exception 'partitions are kept for 0 to 31 days ahead, not %', days_ahead;
    end if;
    foreach parent in array array['outbox', 'batch_log'] loop
        for day in
            select d::date from generate_series(
                (clock_timestamp() at time zone 'UTC')::date - 1,
                (clock_timestamp() at time zone 'UTC')::date + days_ahead, interval '1 day') d
        loop
            if to_regclass(format('rapport.%I', parent || to_char(day, '_YYYYMMDD'))) is null then
                execute format(
                    'create table rapport.%I partition of rapport.%I for values from (%L) to (%L)',
                    parent || to_char(day, '_YYYYMMDD'), parent,
                    day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            end if;
        end loop;
    end loop;
end $$;

-- Drops a day that is over; its parent is locked exclusively for that moment, so the caller sets a
-- short lock_timeout. (To detach concurrently is not possible in a function.)
create function rapport.drop_partition(name text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from pg_inherits
        where inhrelid = to_regclass(format('rapport.%I', name))
            and inhparent in ('rapport.outbox'::regclass, 'rapport.batch_log'::regclass)
    ) then
        raise exception '% is no day of outbox or batch_log', name;
    end if;
    if to_date(right(name, 8), 'YYYYMMDD') >= (clock_timestamp() at time zone 'UTC')::date - 1 then
        raise exception 'the day % is not over', name;
    end if;
    execute format('drop table rapport.%I', name);
end $$;

-- Whom the owner's default privileges name keeps the right to call them.
revoke execute on function rapport.ensure_partitions(integer) from public;
revoke execute on function rapport.drop_partition(text) from public;
