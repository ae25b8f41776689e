# bash completion for capctl

# Keeps what begins with the current word, less the part that readline leaves where it is: it divides
# words at ":" and "=", too.
_capctl_reply()
{
    local fixed="" i
    [[ $COMP_WORDBREAKS == *:* ]] && fixed=${cur%"${cur##*:}"}
    mapfile -t COMPREPLY < <("$@" -- "$cur")
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$fixed"}
    done
}

_capctl_address()
{
    local path scheme
    if [[ $cur == unix:* ]]; then
        path=${cur#unix:}
        mapfile -t COMPREPLY < <(compgen -f -- "$path")
        [[ $COMP_WORDBREAKS == *:* ]] || COMPREPLY=("${COMPREPLY[@]/#/unix:}")
        return
    fi
    [[ $cur == *:* ]] && return
    compopt -o nospace +o filenames
    for scheme in "$@"; do
        [[ $scheme == "$cur"* ]] && COMPREPLY+=("$scheme")
    done
}

_capctl()
{
    local commands="check hash pack put publish get slice map has show closure dump load mirror admin status config jobs events top gc roots why delete forbid allow backup compact scrub quota bench help version"
    local methods="hello help schema status metrics cap.stat cap.find cap.list cap.explain refs.list \
        refusals.list quota.list loops.list clients.list jobs.list jobs.cancel events.subscribe \
        config.get config.test config.reload why roots.list roots.set \
        roots.remove gc.plan gc.run cap.delete cap.forbid cap.allow scrub.start scrub.pause scrub.status backup.start backup.list compact.start \
        log.set drain shutdown"
    local kinds="published refused deleted collected forbidden allowed quarantined healed root_set \
        root_removed job_started job_ended config_reloaded upstream_up upstream_away upstream_broken"
    local globals="-s --socket --via --admin --json --timeout -h --help -V --version"
    local cur prev="" command="" options="" count=0 i
    local -a words

    COMPREPLY=()
    # Words as the shell will see them, not as readline divides them.
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        case ${words[i]} in
            -s|--socket|--via|--admin|--from|--to|--timeout|--size|--stack|--clients|--in-flight|--mix|--seconds|--kind|--since|--keep|--pages|--verify|-o|--output|--elf|-d|--directory) ((i++)) ;;
            -*) ;;
            help) [[ -n $command ]] || commands=${commands% help version} ;;
            *) if [[ -z $command ]]; then command=${words[i]}; else ((++count)); fi ;;
        esac
    done
    [[ ${#words[@]} -gt 2 ]] && prev=${words[-2]}
    if [[ $cur == --*=* ]]; then
        prev=${cur%%=*}
        cur=${cur#*=}
    fi

    case $prev in
        -s|--socket|--to) _capctl_address unix: tcp:; return ;;
        --from) _capctl_address unix: tcp: http:// https://; return ;;
        --via) _capctl_address http:// https://; return ;;
        --admin) _capctl_address unix:; return ;;
        --timeout|--size|--stack|--clients|--in-flight|--mix|--seconds|--since|--keep|--pages) return ;;
        --kind) _capctl_reply compgen -W "$kinds"; return ;;
        -d|--directory) _capctl_reply compgen -d; return ;;
        -o|--output|--elf|--verify) _capctl_reply compgen -f; return ;;
    esac

    case $command in
        "") options=$commands ;;
        hash) options="--size" ;;
        pack) options="-o --output --elf --stack" ;;
        put) options="--size --canonical --keep" ;;
        publish) options="--resolve-only --dry-run --resend --keep" ;;
        has) options="--keep" ;;
        get) options="-o --output --content -d --directory --resume" ;;
        slice) options="-o --output --pages --verify" ;;
        closure) options="-d --directory" ;;
        events) options="--kind --since" ;;
        scrub) options="--repair" ;;
        dump) options="-o --output" ;;
        load) options="--set-roots" ;;
        mirror) options="--from --to" ;;
        delete) options="--force" ;;
        bench) options="--clients --in-flight --mix --seconds --size" ;;
    esac
    if [[ $cur == -* || -z $command ]]; then
        _capctl_reply compgen -W "$options $globals"
        return
    fi
    case $command in
        admin) [[ $count -gt 0 ]] || _capctl_reply compgen -W "$methods" ;;
        config) [[ $count -gt 0 ]] || _capctl_reply compgen -W "get test reload" ;;
        gc) [[ $count -gt 0 ]] || _capctl_reply compgen -W "plan run" ;;
        roots) [[ $count -gt 0 ]] || _capctl_reply compgen -W "list set remove" ;;
        scrub) [[ $count -gt 0 ]] || _capctl_reply compgen -W "status start pause" ;;
        backup) [[ $count -gt 0 ]] || _capctl_reply compgen -W "list" ;;
        jobs) [[ $count -gt 0 ]] || _capctl_reply compgen -W "list cancel" ;;
        check|hash|pack|put|publish|show|load) _capctl_reply compgen -f ;;
    esac
}

complete -o filenames -F _capctl capctl
