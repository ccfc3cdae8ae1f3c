import{j as Gt,E as Kt,A as $,i as N,b as l,t as jt}from"./icons-I7-K48Xo.js";import{r as O,n as b,a as rt,P as lt,b as Ft}from"./page-ISBS-S02.js";import{d as yt,k as bt}from"./draft-D7HC8EvH.js";import{s as ct}from"./files-Bv8nI5bI.js";import{a as Qt}from"./copy-DjJMiP4M.js";import{d as tt,f as Vt,a as Xt,e as Jt}from"./format-CijQ4Vc-.js";const Zt=(t,e,s)=>(s.configurable=!0,s.enumerable=!0,Reflect.decorate&&typeof e!="object"&&Object.defineProperty(t,e,s),s);function te(t,e){return(s,n,i)=>{const o=a=>a.renderRoot?.querySelector(t)??null;return Zt(s,n,{get(){return o(this)}})}}const ee={CHILD:2},se=t=>(...e)=>({_$litDirective$:t,values:e});let ie=class{constructor(e){}get _$AU(){return this._$AM._$AU}_$AT(e,s,n){this._$Ct=e,this._$AM=s,this._$Ci=n}_$AS(e,s){return this.update(e,s)}update(e,s){return this.render(...s)}};const{I:ne}=Gt,$t=t=>t,vt=()=>document.createComment(""),R=(t,e,s)=>{const n=t._$AA.parentNode,i=e===void 0?t._$AB:e._$AA;if(s===void 0){const o=n.insertBefore(vt(),i),a=n.insertBefore(vt(),i);s=new ne(o,a,t,t.options)}else{const o=s._$AB.nextSibling,a=s._$AM,r=a!==t;if(r){let u;s._$AQ?.(t),s._$AM=t,s._$AP!==void 0&&(u=t._$AU)!==a._$AU&&s._$AP(u)}if(o!==i||r){let u=s._$AA;for(;u!==o;){const T=$t(u).nextSibling;$t(n).insertBefore(u,i),u=T}}}return s},D=(t,e,s=t)=>(t._$AI(e,s),t),ae={},oe=(t,e=ae)=>t._$AH=e,re=t=>t._$AH,et=t=>{t._$AR(),t._$AA.remove()};const mt=(t,e,s)=>{const n=new Map;for(let i=e;i<=s;i++)n.set(t[i],i);return n},le=se(class extends ie{constructor(t){if(super(t),t.type!==ee.CHILD)throw Error("repeat() can only be used in text expressions")}dt(t,e,s){let n;s===void 0?s=e:e!==void 0&&(n=e);const i=[],o=[];let a=0;for(const r of t)i[a]=n?n(r,a):a,o[a]=s(r,a),a++;return{values:o,keys:i}}render(t,e,s){return this.dt(t,e,s).values}update(t,[e,s,n]){const i=re(t),{values:o,keys:a}=this.dt(e,s,n);if(!Array.isArray(i))return this.ut=a,o;const r=this.ut??=[],u=[];let T,K,p=0,m=i.length-1,f=0,g=o.length-1;for(;p<=m&&f<=g;)if(i[p]===null)p++;else if(i[m]===null)m--;else if(r[p]===a[f])u[f]=D(i[p],o[f]),p++,f++;else if(r[m]===a[g])u[g]=D(i[m],o[g]),m--,g--;else if(r[p]===a[g])u[g]=D(i[p],o[g]),R(t,u[g+1],i[p]),p++,g--;else if(r[m]===a[f])u[f]=D(i[m],o[f]),R(t,i[p],i[m]),m--,f++;else if(T===void 0&&(T=mt(a,f,g),K=mt(r,p,m)),T.has(r[p]))if(T.has(r[m])){const M=K.get(a[f]),Z=M!==void 0?i[M]:null;if(Z===null){const ft=R(t,i[p]);D(ft,o[f]),u[f]=ft}else u[f]=D(Z,o[f]),R(t,i[p],Z),i[M]=null;f++}else et(i[m]),m--;else et(i[p]),p++;for(;f<=g;){const M=R(t,u[g+1]);D(M,o[f]),u[f++]=M}for(;p<=m;){const M=i[p++];M!==null&&et(M)}return this.ut=a,oe(t,u),Kt}});var ce=Object.defineProperty,he=Object.getOwnPropertyDescriptor,wt=t=>{throw TypeError(t)},S=(t,e,s,n)=>{for(var i=n>1?void 0:n?he(e,s):e,o=t.length-1,a;o>=0;o--)(a=t[o])&&(i=(n?a(e,s,i):a(i))||i);return n&&i&&ce(e,s,i),i},ht=(t,e,s)=>e.has(t)||wt("Cannot "+s),kt=(t,e,s)=>(ht(t,e,"read from private field"),e.get(t)),_t=(t,e,s)=>e.has(t)?wt("Cannot add the same private member more than once"):e instanceof WeakSet?e.add(t):e.set(t,s),ue=(t,e,s,n)=>(ht(t,e,"write to private field"),e.set(t,s),s),_=(t,e,s)=>(ht(t,e,"access private method"),s),Y,v,At,L,Ct,ut,z,St,Mt;const de=64*1024;let A=class extends lt{constructor(){super(...arguments),_t(this,v),this.nameOf=t=>t,this.empty=!0,this.error="",_t(this,Y)}updated(t){t.has("chat")&&(this.field.value=yt(this.chat.name),[this.replyTo,this.editing]=[void 0,void 0],_(this,v,L).call(this))}focus(){this.field?.focus()}reply(t){_(this,v,z).call(this),this.replyTo=t,this.focus()}edit(t){this.replyTo=void 0,this.editing=t,this.field.value=t.text,_(this,v,L).call(this),this.focus()}render(){this.look(this.files);const t=this.editing??this.replyTo;return l`${this.files?.progress(this.chat)??$}
      ${t?l`<div class="about">
            <span
              ><b>${this.editing?"Edit":`Reply to ${t.mine?"yourself":this.nameOf(t.from)}`}</b>
              <span>${ct(t)}</span></span
            >
            <button class="round small" aria-label="Cancel" @click=${()=>_(this,v,z).call(this)}>${N.close}</button>
          </div>`:$}
      ${this.error?l`<p class="failed" role="alert">${this.error}</p>`:$}
      <form
        class="composer"
        @submit=${e=>{e.preventDefault(),_(this,v,ut).call(this)}}
      >
        ${this.files?l`<label class="round plain attach" title="Send an image or a file"
              >${N.attach}<span class="hidden">Send an image or a file</span>
              <input type="file" class="hidden" multiple @change=${e=>_(this,v,St).call(this,e)} />
            </label>`:$}
        <textarea
          rows="1"
          aria-label="Message"
          placeholder="Message"
          autocomplete="off"
          enterkeyhint="send"
          @input=${()=>_(this,v,At).call(this)}
          @keydown=${e=>_(this,v,Ct).call(this,e)}
          @paste=${e=>_(this,v,Mt).call(this,e)}
        ></textarea>
        <button class="round" type="submit" aria-label="Send" ?disabled=${this.empty}>${N.send}</button>
      </form>`}};Y=new WeakMap;v=new WeakSet;At=function(){if(_(this,v,L).call(this),this.error="",this.editing||bt(this.chat.name,this.field.value),clearTimeout(kt(this,Y)),this.empty)return this.session.stopTyping(this.chat);this.session.type(this.chat),ue(this,Y,setTimeout(()=>this.session.stopTyping(this.chat),5e3))};L=function(){const{field:t}=this;this.empty=t.value.trim()==="",t.style.height="auto",t.style.height=`${t.scrollHeight+t.offsetHeight-t.clientHeight}px`};Ct=function(t){if(t.key==="Escape"&&(this.editing||this.replyTo))return _(this,v,z).call(this);const e=matchMedia("(pointer: coarse)").matches;t.key!=="Enter"||t.shiftKey||t.isComposing||e||(t.preventDefault(),_(this,v,ut).call(this))};ut=function(){const t=this.field.value.trim();if(t==="")return;if(new TextEncoder().encode(t).length>de){this.error="This is too long: send it in parts.";return}if(clearTimeout(kt(this,Y)),this.editing){const{seq:s,text:n}=this.editing;return s!==void 0&&t!==n&&this.session.edit(this.chat,s,t),_(this,v,z).call(this)}const e=this.replyTo?.seq;this.session.send(this.chat,t,e===void 0?{}:{ref:e}),this.replyTo=void 0,this.field.value="",bt(this.chat.name,""),_(this,v,L).call(this),this.focus()};z=function(){this.editing&&(this.editing=void 0,this.field.value=yt(this.chat.name),_(this,v,L).call(this)),this.replyTo=void 0,this.focus()};St=function(t){const e=t.target,s=[...e.files??[]];e.value="",s.length>0&&this.files?.send(this.chat,s)};Mt=function(t){const e=[...t.clipboardData?.files??[]];!this.files||e.length===0||(t.preventDefault(),this.files.send(this.chat,e))};S([b({attribute:!1})],A.prototype,"chat",2);S([b({attribute:!1})],A.prototype,"session",2);S([b({attribute:!1})],A.prototype,"nameOf",2);S([b({attribute:!1})],A.prototype,"files",2);S([O()],A.prototype,"replyTo",2);S([O()],A.prototype,"editing",2);S([O()],A.prototype,"empty",2);S([O()],A.prototype,"error",2);S([te("textarea")],A.prototype,"field",2);A=S([rt("t-composer")],A);var pe=Object.defineProperty,fe=Object.getOwnPropertyDescriptor,Tt=t=>{throw TypeError(t)},Et=(t,e,s,n)=>{for(var i=n>1?void 0:n?fe(e,s):e,o=t.length-1,a;o>=0;o--)(a=t[o])&&(i=(n?a(e,s,i):a(i))||i);return n&&i&&pe(e,s,i),i},dt=(t,e,s)=>e.has(t)||Tt("Cannot "+s),x=(t,e,s)=>(dt(t,e,"read from private field"),e.get(t)),I=(t,e,s)=>e.has(t)?Tt("Cannot add the same private member more than once"):e instanceof WeakSet?e.add(t):e.set(t,s),st=(t,e,s,n)=>(dt(t,e,"write to private field"),e.set(t,s),s),$e=(t,e,s)=>(dt(t,e,"access private method"),s),q,G,j,F,it,xt;let nt=class extends lt{constructor(){super(...arguments),I(this,it),I(this,q,0),I(this,G),I(this,j,()=>this.session.hurry()),I(this,F,()=>{document.hidden||this.session.hurry()})}connectedCallback(){super.connectedCallback(),addEventListener("online",x(this,j)),document.addEventListener("visibilitychange",x(this,F))}disconnectedCallback(){super.disconnectedCallback(),clearTimeout(x(this,G)),removeEventListener("online",x(this,j)),document.removeEventListener("visibilitychange",x(this,F))}render(){return this.look(this.session),l`<div role="status" class="status">${$e(this,it,xt).call(this)}</div>`}};q=new WeakMap;G=new WeakMap;j=new WeakMap;F=new WeakMap;it=new WeakSet;xt=function(){const{connection:t}=this.session,e=t.state==="connecting"||t.state==="waiting";if(this.tickWhile(t.state==="waiting"),!e)return st(this,q,0),$;if(x(this,q)||st(this,q,Date.now()),Date.now()-x(this,q)<700)return clearTimeout(x(this,G)),st(this,G,setTimeout(()=>this.requestUpdate(),750)),$;if(t.state!=="waiting")return l`<p class="bar">Connecting…</p>`;const s=Math.max(0,Math.ceil((t.until-Date.now())/1e3));return l`<p class="bar">
      <span aria-live="off">No connection. Trying again ${s>0?`in ${s} s`:"now"}.</span>
      <button class="link" @click=${()=>this.session.hurry()}>Now</button>
    </p>`};Et([b({attribute:!1})],nt.prototype,"session",2);nt=Et([rt("t-connection")],nt);var ve=Object.defineProperty,me=Object.getOwnPropertyDescriptor,Ot=t=>{throw TypeError(t)},w=(t,e,s,n)=>{for(var i=n>1?void 0:n?me(e,s):e,o=t.length-1,a;o>=0;o--)(a=t[o])&&(i=(n?a(e,s,i):a(i))||i);return n&&i&&ve(e,s,i),i},pt=(t,e,s)=>e.has(t)||Ot("Cannot "+s),d=(t,e,s)=>(pt(t,e,"read from private field"),s?s.call(t):e.get(t)),E=(t,e,s)=>e.has(t)?Ot("Cannot add the same private member more than once"):e instanceof WeakSet?e.add(t):e.set(t,s),C=(t,e,s,n)=>(pt(t,e,"write to private field"),e.set(t,s),s),h=(t,e,s)=>(pt(t,e,"access private method"),s),_e=(t,e,s,n)=>({set _(i){C(t,e,i)},get _(){return d(t,e,n)}}),k,H,Q,W,B,P,V,c,Dt,U,at,Wt,Pt,qt,Ht,Lt,Rt,It,Bt,Nt,J,Ut,Yt,zt,ot;const ge=["👍","❤️","😂","😮","😢","🙏"],X=80,gt=80;let y=class extends lt{constructor(){super(...arguments),E(this,c),this.nameOf=t=>t,this.reply=()=>{},this.edit=()=>{},this.shown=X,this.behind=!1,E(this,k,!0),E(this,H,!1),E(this,Q,0),E(this,W,0),E(this,B),E(this,P,()=>{document.hidden||h(this,c,U).call(this)}),E(this,V,t=>{const e=this.querySelector(".menu"),s=t.target instanceof Node&&e?.parentElement?.contains(t.target);this.menu&&!s&&(this.menu=void 0)})}connectedCallback(){super.connectedCallback(),document.addEventListener("visibilitychange",d(this,P)),addEventListener("focus",d(this,P)),document.addEventListener("pointerdown",d(this,V)),C(this,B,new ResizeObserver(()=>h(this,c,Dt).call(this))),d(this,B).observe(this)}disconnectedCallback(){super.disconnectedCallback(),document.removeEventListener("visibilitychange",d(this,P)),removeEventListener("focus",d(this,P)),document.removeEventListener("pointerdown",d(this,V)),d(this,B)?.disconnect()}get log(){return this.querySelector(".log")}willUpdate(t){this.look(this.chat,this.files),t.has("chat")&&([this.shown,_e(this,k)._,this.menu,this.active]=[X,!0,void 0,void 0],C(this,W,0)),C(this,Q,this.log?.scrollHeight??0)}updated(){const t=this.chat.newest,e=this.chat.items().length;e>d(this,W)&&t?.mine&&t.seq===void 0&&C(this,k,!0),e>d(this,W)&&d(this,W)>0&&!d(this,k)&&(this.behind=!0),C(this,W,e),d(this,k)?this.toEnd():d(this,H)&&this.log&&(this.log.scrollTop+=this.log.scrollHeight-d(this,Q)),h(this,c,U).call(this)}toEnd(){const{log:t}=this;t&&(t.scrollTop=t.scrollHeight),this.behind=!1}render(){const t=this.chat.items().slice(-this.shown),e=t.at(-1)?.key,s=t.some(({key:n})=>n===this.active)?this.active:e;return l`<div
        class="log"
        role="log"
        aria-live="polite"
        aria-label="Messages"
        tabindex="0"
        @scroll=${()=>h(this,c,at).call(this)}
        @keydown=${n=>h(this,c,Yt).call(this,n,t)}
      >
        <ol class="messages">
          ${le(t,({key:n})=>n,(n,i)=>h(this,c,Pt).call(this,n,t[i-1],s))}
        </ol>
      </div>
      ${this.behind?l`<button
            class="round behind"
            aria-label="To the newest messages"
            @click=${()=>{C(this,k,!0),this.toEnd(),h(this,c,U).call(this)}}
          >
            ${N.down}
          </button>`:$}`}};k=new WeakMap;H=new WeakMap;Q=new WeakMap;W=new WeakMap;B=new WeakMap;P=new WeakMap;V=new WeakMap;c=new WeakSet;Dt=function(){d(this,k)&&this.toEnd()};U=function(){!document.hidden&&document.hasFocus()&&d(this,k)&&this.session.markRead(this.chat)};at=async function(){const{log:t}=this;if(!t||(C(this,k,t.scrollHeight-t.scrollTop-t.clientHeight<gt),d(this,k)&&(this.behind=!1,h(this,c,U).call(this)),t.scrollTop>gt||d(this,H)||t.scrollHeight<=t.clientHeight))return;C(this,H,!0);const e=await h(this,c,Wt).call(this);await this.updateComplete,C(this,H,!1),e&&h(this,c,at).call(this)};Wt=async function(){const t=this.chat.items().length-this.shown,e=t<X&&this.earlier!==void 0&&await this.earlier();return this.shown+=X,e||t>0};Pt=function(t,e,s){const n=!e||tt(e.time)!==tt(t.time),i=n?l`<span class="day"><span>${tt(t.time)}</span></span>`:$;if(t.system)return l`<li class="system">${i}<span>${h(this,c,zt).call(this,t)}</span></li>`;const o=!n&&e?.from===t.from&&!e.system&&t.time-e.time<12e4,{mine:a,key:r}=t,u=this.menu===r,T=t.seq!==void 0&&!t.deleted;return l`<li class="line ${a?"mine":"theirs"} ${o?"grouped":""}" data-key=${r}>
      ${i}
      <div class="row">
        <div class="bubble ${t.deleted?"deleted":""}">
          ${this.chat.group&&!a&&!o?l`<span class="who">${this.nameOf(t.from)}</span>`:a?l`<span class="hidden">You: </span>`:l`<span class="hidden">${this.nameOf(t.from)}: </span>`}
          ${h(this,c,Ht).call(this,t)} ${h(this,c,qt).call(this,t)}
          <span class="meta">
            ${t.edited?l`<span>edited</span>`:$}
            <time datetime=${new Date(t.time).toISOString()} title=${Vt(t.time)}>${Xt(t.time)}</time>
            ${a?jt(this.chat.tick(t)):$}
          </span>
        </div>
        ${T?l`<button
              class="more"
              aria-label="More about this message"
              aria-haspopup="menu"
              aria-expanded=${u}
              tabindex=${r===s?0:-1}
              @click=${K=>h(this,c,Nt).call(this,t,K.currentTarget)}
              @focus=${()=>this.active=r}
            >
              ${N.more}
            </button>`:$}
        ${u?h(this,c,Bt).call(this,t):$}
      </div>
      ${t.failed?h(this,c,It).call(this,t):$} ${h(this,c,Rt).call(this,t)}
    </li>`};qt=function(t){if(t.deleted)return l`<em class="text">This message was deleted</em>`;const e=this.files?.show(this.chat,t);return e||l`<span class="text"
      >${Jt(t.text).map(({text:s,url:n})=>n?l`<a href=${n} target="_blank" rel="noopener noreferrer">${s}</a>`:s)}</span
    >`};Ht=function({ref:t}){if(t===void 0)return $;const e=this.chat.item(t);return l`<button class="quote" @click=${()=>h(this,c,Lt).call(this,e)}>
      <span class="hidden">In reply to</span>
      <b>${e?e.mine?"You":this.nameOf(e.from):"An earlier message"}</b>
      <span>${e?ct(e):""}</span>
    </button>`};Lt=function(t){(t&&this.querySelector(`[data-key="${CSS.escape(t.key)}"]`))?.scrollIntoView({block:"center"})};Rt=function({seq:t,reactions:e}){if(e.size===0||t===void 0)return $;const s=new Map;for(const[n,i]of e)s.set(i,[...s.get(i)??[],n]);return l`<div class="reactions">
      ${[...s].map(([n,i])=>{const o=i.some(r=>this.chat.isMine(r)),a=i.map(r=>this.chat.isMine(r)?"you":this.nameOf(r)).join(", ");return l`<button
          class="reaction"
          aria-pressed=${o}
          aria-label=${`${n} by ${a}`}
          title=${a}
          @click=${()=>this.session.react(this.chat,t,o?"":n)}
        >
          ${n}${i.length>1?l` <span>${i.length}</span>`:$}
        </button>`})}
    </div>`};It=function({key:t,failed:e}){const{outbox:s}=this.session;return l`<p class="failed" role="alert">
      Not sent: ${e?.text}
      <button class="link" @click=${()=>s.again(this.chat,t,Ft())}>Try again</button>
      <button class="link" @click=${()=>s.discard(this.chat,t)}>Discard</button>
    </p>`};Bt=function(t){const e=t.seq??0,{chat:s,session:n}=this,i=r=>()=>{h(this,c,J).call(this),r()},o=[...t.reactions].find(([r])=>s.isMine(r))?.[1],a=s.group&&(s.role==="owner"||s.role==="admin");return l`<div
      class="menu"
      role="menu"
      aria-label="Message"
      @keydown=${r=>h(this,c,Ut).call(this,r)}
    >
      <div class="emoji" role="group" aria-label="React">
        ${ge.map(r=>l`<button
              role="menuitemradio"
              aria-checked=${o===r}
              @click=${i(()=>n.react(s,e,o===r?"":r))}
            >
              ${r}
            </button>`)}
      </div>
      <button role="menuitem" @click=${i(()=>this.reply(t))}>Reply</button>
      <button role="menuitem" @click=${i(()=>{Qt(ct(t))})}>Copy</button>
      ${t.mine&&t.type===void 0?l`<button role="menuitem" @click=${i(()=>this.edit(t))}>Edit</button>`:$}
      <button role="menuitem" @click=${i(()=>n.delete(s,e,"me"))}>Delete for me</button>
      ${t.mine||a?l`<button role="menuitem" @click=${i(()=>n.delete(s,e,"everyone"))}>
            Delete for everyone
          </button>`:$}
    </div>`};Nt=async function({key:t},e){if(this.menu===t)return h(this,c,J).call(this);this.menu=t,this.active=t,await this.updateComplete;const s=this.querySelector(".menu"),n=this.log?.getBoundingClientRect();s&&n&&e.getBoundingClientRect().bottom+s.offsetHeight>n.bottom&&s.classList.add("up"),s?.querySelector("button")?.focus()};J=function(){const t=this.querySelector('[aria-expanded="true"]');this.menu=void 0,t?.focus()};Ut=function(t){const e=[...this.querySelectorAll(".menu button")],s=e.indexOf(document.activeElement),n={ArrowDown:1,ArrowRight:1,ArrowUp:-1,ArrowLeft:-1}[t.key];if(t.key==="Escape"||t.key==="Tab")h(this,c,J).call(this);else if(n)e.at((s+n)%e.length)?.focus();else if(t.key==="Home")e[0]?.focus();else if(t.key==="End")e.at(-1)?.focus();else return;t.preventDefault(),t.stopPropagation()};Yt=function(t,e){const s={ArrowDown:1,ArrowUp:-1}[t.key],n=t.target.closest("[data-key]")?.dataset.key;if(!s||n===void 0)return;t.preventDefault();const i=e.filter(({seq:a,system:r,deleted:u})=>a!==void 0&&!r&&!u),o=i[i.findIndex(({key:a})=>a===n)+s];o&&(this.active=o.key,this.querySelector(`[data-key="${CSS.escape(o.key)}"] .more`)?.focus())};zt=function({from:t,system:e={},mine:s}){const n=s?"You":this.nameOf(t),i=Array.isArray(e.users)?e.users.map(o=>h(this,c,ot).call(this,String(o))).join(", "):"";switch(e.action){case"create":return`${n} made the group${i?`, with ${i}`:""}`;case"add":return`${n} added ${i}`;case"remove":return`${n} removed ${i}`;case"leave":return`${n} left`;case"join":return`${n} joined`;case"role":return`${n} made ${h(this,c,ot).call(this,String(e.user))} ${String(e.role)}`;case"title":return e.title?`${n} called the group “${String(e.title)}”`:`${n} took the title away`;case"timer":return Number(e.seconds)>0?`${n} lets messages disappear after ${String(e.seconds)} s`:`${n} lets messages stay`;default:return`${n} changed how long messages are kept`}};ot=function(t){return t===this.session.me?"you":this.nameOf(t)};w([b({attribute:!1})],y.prototype,"chat",2);w([b({attribute:!1})],y.prototype,"session",2);w([b({attribute:!1})],y.prototype,"nameOf",2);w([b({attribute:!1})],y.prototype,"reply",2);w([b({attribute:!1})],y.prototype,"edit",2);w([b({attribute:!1})],y.prototype,"earlier",2);w([b({attribute:!1})],y.prototype,"files",2);w([O()],y.prototype,"menu",2);w([O()],y.prototype,"active",2);w([O()],y.prototype,"shown",2);w([O()],y.prototype,"behind",2);y=w([rt("t-messages")],y);export{le as c,te as e};
