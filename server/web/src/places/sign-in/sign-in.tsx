/** Signing in, where users are configured. */
import { useEffect, useState } from 'preact/hooks';
import { signIn } from '../../api/client';
import { asApiError, type ApiError } from '../../api/errors';
import { navigate, route } from '../../state/route';
import { begin, needsSignIn, who } from '../../state/session';
import './sign-in.css';

/** Seconds until somebody may try again. */
function useWait(error: ApiError | null): number {
  const [left, setLeft] = useState(0);
  useEffect(() => {
    const until = Date.now() + (error?.retryAfter ?? 0) * 1000;
    const tick = (): void => setLeft(Math.max(0, Math.ceil((until - Date.now()) / 1000)));
    tick();
    const timer = setInterval(tick, 500);
    return () => clearInterval(timer);
  }, [error]);
  return left;
}

/** See the module. */
export function SignInPlace() {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [error, setError] = useState<ApiError | null>(null);
  const [isBusy, setBusy] = useState(false);
  const wait = useWait(error);

  const submit = async (): Promise<void> => {
    setBusy(true);
    setError(null);
    try {
      await signIn(name, password);
      setPassword('');
      await begin();
      if (!needsSignIn.peek() && route.peek().path === '/sign-in') navigate('/explore', 'replace');
    } catch (failed) {
      setError(asApiError(failed));
    }
    setBusy(false);
  };

  const words = !error ? null : wait > 0 ? `Too many tries. Try again in ${wait} s.` : error.status === 401 ? 'Name or password is wrong.' : error.status === 404 ? 'This server has no users: nobody has to sign in.' : error.message;
  return (
    <main id="main" class="sign-in">
      <form class="tile" onSubmit={(event) => { event.preventDefault(); void submit(); }}>
        <h1>Sign in</h1>
        {who.value?.user && !needsSignIn.value && <p class="muted">You are signed in as {who.value.user}.</p>}
        <label>Name <input class="field" name="username" autocomplete="username" required value={name} onInput={(event) => setName(event.currentTarget.value)} /></label>
        <label>Password <input class="field" name="password" type="password" autocomplete="current-password" required value={password} aria-describedby="sign-in-error" aria-invalid={error !== null} onInput={(event) => setPassword(event.currentTarget.value)} /></label>
        <p id="sign-in-error" class="wrong" role="alert">{words}</p>
        <button type="submit" class="button primary" disabled={isBusy || wait > 0}>Sign in</button>
      </form>
    </main>
  );
}
