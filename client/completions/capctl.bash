# bash completion for capctl

_capctl()
{
    local commands="check hash pack put publish get has show closure admin status help version"
    local globals="--socket --admin --json --timeout --help --version"
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command="" options="" i

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -s|--socket|--admin|--timeout) ((i++)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done

    case $prev in
        -s|--socket)
            mapfile -t COMPREPLY < <(compgen -W "unix: tcp:" -- "$cur")
            compopt -o nospace
            return ;;
        --admin)
            mapfile -t COMPREPLY < <(compgen -W "unix:" -- "$cur")
            compopt -o nospace
            return ;;
        --timeout|--size|--stack)
            return ;;
        -d|--directory)
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return ;;
        -o|--output|--elf)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return ;;
    esac

    case $command in
        "") mapfile -t COMPREPLY < <(compgen -W "$commands $globals" -- "$cur"); return ;;
        hash) options="--size" ;;
        pack) options="--output --elf --stack" ;;
        put) options="--size --canonical" ;;
        publish) options="--resolve-only --dry-run" ;;
        get) options="--output --content" ;;
        closure) options="--directory" ;;
        admin)
            if [[ $cur != -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "hello help schema status metrics cap.stat \
                    cap.list cap.explain refs.list refusals.list clients.list log.set drain \
                    shutdown" -- "$cur")
                return
            fi ;;
    esac

    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options $globals" -- "$cur")
        return
    fi
    case $command in
        check|hash|pack|put|publish|show) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}

complete -o filenames -F _capctl capctl
