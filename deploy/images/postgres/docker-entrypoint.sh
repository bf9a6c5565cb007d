#!/bin/bash
# What the public image's entry point promises: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB (each from a file too),
# POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, PGDATA, and scripts that run once, on an empty volume.
set -euo pipefail

from_file() { # name, default: the variable, else what the file of NAME_FILE holds, else the default
    local name=$1 file=$1_FILE
    if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
        echo "error: $name and $file are both set" >&2
        exit 1
    fi
    if [ -n "${!file:-}" ]; then
        printf -v "$name" %s "$(<"${!file}")"
    else
        printf -v "$name" %s "${!name:-${2:-}}"
    fi
    export "${name?}"
    unset "$file"
}

own_folders() { # the volume may be another user's when it is new; a filled one is not walked through
    mkdir -p "$PGDATA" /var/run/postgresql
    [ "$(stat -c %U "$PGDATA")" = postgres ] || chown -R postgres:postgres "$PGDATA"
    chown postgres:postgres /var/run/postgresql
    chmod 3775 /var/run/postgresql 2>/dev/null || true
}

create_cluster() {
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        echo "error: no POSTGRES_PASSWORD, and POSTGRES_HOST_AUTH_METHOD is not trust" >&2
        exit 1
    fi
    local arguments
    read -ra arguments <<<"${POSTGRES_INITDB_ARGS:-}"
    initdb --no-sync --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        ${arguments[@]+"${arguments[@]}"}
    printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
}

run_sql() { # arguments of psql
    PGHOST='' psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password "$@"
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sh)
            echo "$0: running $file"
            # shellcheck source=/dev/null
            if [ -x "$file" ]; then "$file"; else . "$file"; fi
            ;;
        *.sql)
            echo "$0: running $file"
            run_sql --dbname "$POSTGRES_DB" --file "$file"
            ;;
        *.sql.gz)
            echo "$0: running $file"
            gunzip -c "$file" | run_sql --dbname "$POSTGRES_DB"
            ;;
        '/docker-entrypoint-initdb.d/*') ;;
        *) echo "$0: ignoring $file" ;;
        esac
    done
}

initialise() { # on a temporary server without TCP, on disk all at once at the end
    create_cluster
    export PGPASSWORD=$POSTGRES_PASSWORD
    PGUSER=$POSTGRES_USER pg_ctl --pgdata "$PGDATA" --wait start -o "$(printf '%q ' "$@" -c listen_addresses= -c fsync=off -p 5432)"
    if [ "$POSTGRES_DB" != postgres ]; then
        # shellcheck disable=SC2016
        echo 'create database :"database"' | run_sql --dbname postgres --set database="$POSTGRES_DB"
    fi
    run_init_files
    PGUSER=$POSTGRES_USER pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
    initdb --sync-only
    unset PGPASSWORD
    echo "PostgreSQL init process complete; ready for start up."
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "${1:-}" = postgres ]; then
    if [ "$(id -u)" = 0 ]; then
        own_folders
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    fi
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA" 2>/dev/null || true
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_INITDB_ARGS
    : "${POSTGRES_HOST_AUTH_METHOD:=scram-sha-256}"
    if [ -s "$PGDATA/PG_VERSION" ]; then
        echo "PostgreSQL Database directory appears to contain a database; Skipping initialization"
    else
        shift
        initialise "$@"
        set -- postgres "$@"
    fi
fi
exec "$@"
